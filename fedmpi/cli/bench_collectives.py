"""What collectives take on your ranks: fedmpi's beside bare MPI's.

Under ``mpiexec`` or ``srun`` on their ranks, with ``--ranks P`` under an ``mpiexec`` of its own. The average is that of
one update of each rank, beside a Reduce and a Bcast of float32; in the gathers all ranks together have the values.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from fedmpi.cli import launch
from fedmpi.cli.number_arguments import Parser, integer
from fedmpi.config import ConfigError
from fedmpi.mpi import stop_signals
from fedmpi.mpi.guards import inside_mpi_launch

if TYPE_CHECKING:
    from fedmpi.mpi.measured_collectives import Timing

NAME = "collectives"
SUMMARY = (__doc__ or "").partition("\n")[0]
_LENGTHS = (10_000, 444_062, 6_603_710)
_MOST_VALUES = 2**28


def run(given: Sequence[str]) -> int:
    """Measure and print, on rank 0; ``given`` are the arguments after the benchmark's name."""
    parser = Parser(prog=f"fedmpi bench {NAME}", description=__doc__, allow_abbrev=False)
    parser.add_argument("--ranks", type=integer(1), metavar="P", help="start P MPI processes")
    parser.add_argument(
        "--lengths",
        type=integer(1, _MOST_VALUES),
        nargs="+",
        default=_LENGTHS,
        metavar="N",
        help=f"numbers of float32 values (default: {' '.join(map(str, _LENGTHS))})",
    )
    parser.add_argument(
        "--repeats", type=integer(1), default=9, metavar="N", help="measurements of each (default: 9)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, times in seconds")
    arguments = parser.parse_args(given)
    if (arguments.ranks or 1) > 1 and not inside_mpi_launch(os.environ):
        with stop_signals.installed() as flag:
            return launch.run_under_mpiexec(arguments.ranks, ["bench", NAME, *given], flag)
    import torch

    from fedmpi.mpi.library import MPI, library_name
    from fedmpi.mpi.measured_collectives import measure

    comm = MPI.COMM_WORLD
    if arguments.ranks not in (None, comm.size):
        problem = f"found {arguments.ranks}, but {comm.size} were started"
        raise ConfigError("--ranks", problem, "the number of ranks started, or no --ranks")
    torch.set_num_threads(1)
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    nodes = comm.allreduce(int(node.rank == 0))
    timings = measure(comm, arguments.lengths, arguments.repeats)
    if comm.rank == 0:
        facts = {"mpi": library_name(), "ranks": comm.size, "nodes": nodes, "repeats": arguments.repeats}
        print(_json(facts, timings) if arguments.json else _table(facts, timings), flush=True)
    return 0


def _json(facts: dict[str, str | int], timings: Sequence[Timing]) -> str:
    rows = [{**asdict(timing), "ratio": timing.ratio} for timing in timings]
    return json.dumps({**facts, "timings": rows}, indent=2)


def _table(facts: dict[str, str | int], timings: Sequence[Timing]) -> str:
    ranks, nodes = (f"{facts[name]} {name if facts[name] != 1 else name[:-1]}" for name in ("ranks", "nodes"))
    lines = [
        f"{ranks} on {nodes}, {facts['mpi']}; milliseconds, medians of {facts['repeats']}",
        "",
        f"{'float32 values':>14}  {'operation':<26}{'bare':>10}{'fedmpi':>10}{'ratio':>8}",
    ]
    for timing in timings:
        line = f"{timing.values:>14,}  {timing.operation:<26}{timing.bare_s * 1e3:>10.3f}"
        if timing.fedmpi_s is not None:
            line += f"{timing.fedmpi_s * 1e3:>10.3f}{timing.ratio:>8.2f}"
        lines.append(line)
    return "\n".join(lines)
