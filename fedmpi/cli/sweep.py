"""List or run the runs of a sweep: many configurations from one TOML file.

``--list`` says what there is, ``--index I`` runs one, as a task of a job array does, and without either all are
run, several at a time. Runs that are complete are left alone, those that were interrupted go on from their
checkpoints. ``fedmpi.sweeps`` describes the file. How each run ended is kept in ``logs/NAME.json`` of the study.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from fedmpi.cli import launch, stopped
from fedmpi.cli.number_arguments import integer
from fedmpi.cli.output import prepare_output
from fedmpi.cli.recorded_run import SUCCEEDED, reason_in, recorded
from fedmpi.cli.supervisor import announce_start
from fedmpi.cli.sweep_report import list_lines, table_lines
from fedmpi.cli.sweep_runs import (
    Ended,
    Say,
    checked,
    finished,
    refuse_launcher,
    run_side_by_side,
    say,
    say_failures,
    silent,
)
from fedmpi.config import Config, ConfigError
from fedmpi.config.errors import DONE, PREEMPTED
from fedmpi.experiment.folder_lock import FolderLock
from fedmpi.mpi import stop_signals
from fedmpi.mpi.guards import inside_mpi_launch
from fedmpi.sweeps import STUDIES, PlannedRun, Sweep, plan, record_end, state, write_list


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", nargs="?", metavar="SWEEP", help="a TOML file, or a sweep of fedmpi's own")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="section.key=value",
        help="replaces one key of the configuration of all runs",
    )
    parser.add_argument(
        "--base",
        metavar="BASE",
        help="a preset or a file in place of the sweep's own base: the same study of other data, models, devices",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--list",
        action="store_true",
        help="print index, status, name and changes of every run; status: - (not started), running, completed, "
        "preempted, failed, unreadable",
    )
    what.add_argument("--index", type=integer(0), metavar="I", help="run the one with this index alone")
    what.add_argument("--print", action="store_true", help="print the TOML text of a sweep of fedmpi's own")
    parser.add_argument("--ranks", type=integer(1), metavar="P", help="number of MPI ranks of a run")
    parser.add_argument(
        "--jobs", type=integer(1), metavar="N", help="runs at the same time (default: cores / ranks)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the run folders (default: runs/SWEEP, or runs/SWEEP-BASE)",
    )
    parser.add_argument(
        "--ended",
        type=int,
        metavar="CODE",
        help="with --index, for job scripts: run nothing, but record that this run ended with exit code CODE "
        "(stdin: what it printed)",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")


def execute(arguments: argparse.Namespace) -> int:
    """0 when all runs that were asked for are complete, 75 when they were interrupted, 1 when one failed."""
    if arguments.sweep is None:
        print(STUDIES.listing())
        return DONE
    if arguments.print:
        print(STUDIES.text(arguments.sweep), end="")
        return DONE
    sweep = plan(arguments.sweep, arguments.overrides, arguments.base)
    study = arguments.output if arguments.output is not None else Path("runs") / sweep.name
    if arguments.list:
        for line in list_lines(sweep, study):
            print(line)
        return DONE
    if arguments.ended is not None:
        return _record_end(sweep, study, arguments)
    if arguments.index is not None:
        return _run_one(sweep, study, arguments)
    return _run_all(sweep, study, arguments)


def _of_index(sweep: Sweep, arguments: argparse.Namespace) -> PlannedRun:
    if arguments.index >= len(sweep.runs):
        raise ConfigError("--index", f"found {arguments.index}", f"0 to {len(sweep.runs) - 1}")
    if arguments.jobs is not None:
        raise ConfigError("--jobs", "found beside --index, which is for one run", "--index without --jobs")
    return sweep.runs[arguments.index]


def _record_end(sweep: Sweep, study: Path, arguments: argparse.Namespace) -> int:
    """Record the end of a run that could not do so itself, as all of its ranks are gone."""
    if arguments.index is None:
        raise ConfigError(
            "--ended", "found without --index, which says of which run", "--index I --ended CODE"
        )
    run, code = _of_index(sweep, arguments), arguments.ended
    said = "" if code in SUCCEEDED or sys.stdin.isatty() else sys.stdin.read()
    record_end(study, run.name, code, reason_in(said))
    return DONE


def _run_one(sweep: Sweep, study: Path, arguments: argparse.Namespace) -> int:
    """Run one on the ranks this was started with, or start ``mpiexec``; the exit code of the experiment."""
    run = _of_index(sweep, arguments)
    if finished(run, study / run.name):
        if launch.rank(os.environ) == 0 and not arguments.quiet:
            print(f"{run.name}: complete already", flush=True)
        return DONE
    return recorded(study, run.name, lambda: _run_recorded(sweep, run, study, arguments), _exit_code)


def _run_recorded(sweep: Sweep, run: PlannedRun, study: Path, arguments: argparse.Namespace) -> int:
    output = study / run.name
    if (arguments.ranks or 1) > 1 and not inside_mpi_launch(os.environ):
        checked(run, output, arguments.ranks)
        with stop_signals.installed() as flag:
            return launch.run_under_mpiexec(arguments.ranks, arguments.arguments, flag)

    def prepare(ranks: int) -> tuple[Config, Path, FolderLock]:
        """On rank 0 of ``ranks``: the configuration, and the run folder made ready and locked. Raises ConfigError."""
        announce_start(os.environ)
        if arguments.ranks not in (None, ranks):
            problem = f"found {arguments.ranks}, but {ranks} were started"
            raise ConfigError("--ranks", problem, "the number of ranks started, or no --ranks")
        config = checked(run, output, ranks)
        write_list(sweep, study)
        return config, output, prepare_output(output, config, resume=True, overwrite=False)

    from fedmpi.experiment.main import main  # MPI and torch come with it, and take seconds

    with stop_signals.installed():
        code = main(prepare, resume=True, quiet=arguments.quiet)
    if code == PREEMPTED:
        stopped.say_with_checkpoint(shlex.join(["fedmpi", *arguments.arguments]))
    return code


def _exit_code(error: BaseException) -> int | None:
    from fedmpi.cli.main import exit_code  # which imports this module

    return exit_code(error)


def _run_all(sweep: Sweep, study: Path, arguments: argparse.Namespace) -> int:
    refuse_launcher("fedmpi sweep", "--ranks P without a launcher, or --index I with one")
    pending = [run for run in sweep.runs if not finished(run, study / run.name)]
    tell = silent if arguments.quiet else say
    ended = run_side_by_side(sweep, study, pending, arguments.ranks or 1, arguments.jobs, tell)
    return _conclude(sweep, study, ended, tell)


def _conclude(sweep: Sweep, study: Path, ended: Ended, tell: Say) -> int:
    """The table of all runs, and a line on stderr for each that failed, by its name; the exit code."""
    complete = [run.name for run in sweep.runs if finished(run, study / run.name)]
    tell("")
    for line in table_lines({run.name: state(study, run.name) for run in sweep.runs}):
        tell(line)
    tell(f"{len(complete)} of {len(sweep.runs)} runs are complete, in {study}")
    say_failures(study, ended)
    return DONE if len(complete) == len(sweep.runs) else ended.exit_code
