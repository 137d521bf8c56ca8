"""The entry of a run on every rank: start together, fail together, end with one exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from mpi4py import MPI

from fedmpi.checkpoint import CheckpointError
from fedmpi.config import Config, ConfigError
from fedmpi.emulation.errors import EmulationError
from fedmpi.experiment.assembly import assemble
from fedmpi.experiment.recording import Recorder
from fedmpi.learning.datasets import DataError
from fedmpi.mpi.agreement import Refused
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.guards import LaunchError, check_launch
from fedmpi.trace import TraceError

EXPECTED: dict[type[Exception], int] = {
    ConfigError: 2,
    DataError: 2,
    EmulationError: 2,
    TraceError: 1,
    CheckpointError: 1,
    OSError: 1,
}
"""What users' input and machines can bring about, with exit codes; anything else is a bug and shows its traceback."""

Prepare = Callable[[int], tuple[Config, Path]]


def main(prepare: Prepare, *, resume: bool, overwrite: bool, quiet: bool) -> int:
    """Run an experiment on the ranks of COMM_WORLD and return the exit code (DESIGN: 0, 1, 2 or 75).

    ``prepare`` is called on rank 0 alone with the number of ranks; it returns the validated configuration and the run
    folder. Errors are printed once, by rank 0; an unexpected exception shows its traceback and ends all ranks.
    """
    ranks = Ranks(MPI.COMM_WORLD)
    try:
        check_launch(ranks.size, os.environ)
        return _run(ranks, prepare, resume, quiet)
    except LaunchError as error:
        if error.reporter:
            print(f"fedmpi: {error}", file=sys.stderr, flush=True)
        return 1
    except Refused as error:
        if ranks.is_server:
            print(f"fedmpi: {error}", file=sys.stderr, flush=True)
        return error.code
    except BaseException:
        if ranks.size == 1:
            raise
        print(f"fedmpi: rank {ranks.rank} failed:", file=sys.stderr)
        traceback.print_exc()
        sys.stderr.flush()
        ranks.comm.Abort(1)
        raise
