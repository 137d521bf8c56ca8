"""Run an experiment.

Without ``--ranks``, on the ranks it was started with (``mpiexec``, ``srun``) or on one. With ``--ranks P``
outside of an MPI launch the process starts ``mpiexec -n P``, after the configuration was found to be good.
Ctrl-C and SIGTERM end a run with a checkpoint.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from fedmpi.cli import launch, stopped
from fedmpi.cli.configured import add_configuration, configured
from fedmpi.cli.output import check_output, default_output, prepare_output
from fedmpi.cli.rank_logs import RankLog
from fedmpi.cli.supervisor import announce_start
from fedmpi.config import Config, ConfigError
from fedmpi.config.errors import PREEMPTED
from fedmpi.experiment.folder_lock import FolderLock
from fedmpi.mpi import stop_signals
from fedmpi.mpi.guards import inside_mpi_launch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the run (default: runs/NAME-SEED)"
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in the run folder, if there is one",
    )
    existing.add_argument("--overwrite", action="store_true", help="discard the run in the run folder")
    parser.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    parser.add_argument(
        "--log-per-rank",
        type=Path,
        metavar="DIR",
        help="what each rank prints also goes into DIR/rank-N.log, with where it ran and how it ended",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Start ``mpiexec`` where it is needed, else run here; the exit code of the experiment."""
    checked: tuple[int, Config] | None = None
    with stop_signals.installed() as flag:
        if not inside_mpi_launch(os.environ):
            ranks = arguments.ranks or 1
            config = configured(arguments, ranks)  # what is wrong is said before torch is imported
            check_output(_output(arguments, config), config, arguments.resume, arguments.overwrite)
            checked = ranks, config
            if ranks > 1:
                if flag.set:
                    stopped.say_before_the_run()
                    return PREEMPTED
                return launch.run_under_mpiexec(ranks, arguments.arguments, flag)
        if arguments.log_per_rank is None:
            return _run_here(arguments, checked)
        log = RankLog(arguments.log_per_rank)
        return log.around(arguments.arguments, lambda: _run_here(arguments, checked, log))


def _run_here(
    arguments: argparse.Namespace, checked: tuple[int, Config] | None, log: RankLog | None = None
) -> int:
    """``checked``: the configuration as far as it is known already, and for how many ranks it was found fit."""
    prepared: tuple[int, Path] | None = None

    def prepare(ranks: int) -> tuple[Config, Path, FolderLock]:
        """On rank 0 of ``ranks``: the configuration, and the run folder made ready and locked. Raises ConfigError."""
        nonlocal prepared
        announce_start(os.environ)
        if arguments.ranks not in (None, ranks):
            problem = f"found {arguments.ranks}, but {ranks} were started"
            raise ConfigError("--ranks", problem, "the number of ranks started, or no --ranks")
        if log is not None:
            log.check()
        config = checked[1] if checked and checked[0] == ranks else configured(arguments, ranks)
        output = _output(arguments, config)
        lock = prepare_output(output, config, arguments.resume, arguments.overwrite)
        prepared = ranks, output
        return config, output, lock

    from fedmpi.experiment.main import main  # MPI and torch come with it, and take seconds

    code = main(prepare, resume=arguments.resume, quiet=arguments.quiet)
    if code == PREEMPTED and prepared is None:
        stopped.say_before_the_run()
    elif code == PREEMPTED and prepared is not None:
        stopped.say_with_checkpoint(stopped.command_to_go_on(arguments.arguments, *prepared))
    return code


def _output(arguments: argparse.Namespace, config: Config) -> Path:
    return arguments.output if arguments.output is not None else default_output(config)
