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
from collections.abc import Callable
from pathlib import Path

from fedmpi.cli import launch, stopped
from fedmpi.cli.configured import configured
from fedmpi.cli.number_arguments import integer
from fedmpi.cli.output import check_output, lock_folder, prepare_output
from fedmpi.cli.process_pool import Pool, Program
from fedmpi.cli.recorded_run import SUCCEEDED, reason_in, recorded, save
from fedmpi.cli.supervisor import announce_start
from fedmpi.cli.sweep_report import end_text, list_lines, log_size, said_since, table_lines
from fedmpi.config import Config, ConfigError, dumps
from fedmpi.config.errors import DONE, FAILED, PREEMPTED
from fedmpi.experiment.folder_lock import FolderLock
from fedmpi.mpi import stop_signals
from fedmpi.mpi.forkserver.stub import served
from fedmpi.mpi.guards import inside_mpi_launch
from fedmpi.sweeps import (
    STUDIES,
    PlannedRun,
    Sweep,
    failure_text,
    is_finished,
    plan,
    progress,
    record_end,
    record_start,
    state,
    write_list,
)

_Say = Callable[[str], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", nargs="?", metavar="SWEEP", help="a TOML file, or a sweep of fedmpi's own")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="section.key=value",
        help="replaces one key of the configuration of all runs",
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
        "--output", type=Path, metavar="DIR", help="folder of the run folders (default: runs/SWEEP)"
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
    sweep = plan(arguments.sweep, arguments.overrides)
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
    if _finished(run, study / run.name):
        if launch.rank(os.environ) == 0 and not arguments.quiet:
            print(f"{run.name}: complete already", flush=True)
        return DONE
    return recorded(study, run.name, lambda: _run_recorded(sweep, run, study, arguments), _exit_code)


def _run_recorded(sweep: Sweep, run: PlannedRun, study: Path, arguments: argparse.Namespace) -> int:
    output = study / run.name
    if (arguments.ranks or 1) > 1 and not inside_mpi_launch(os.environ):
        _checked(run, output, arguments.ranks)
        with stop_signals.installed() as flag:
            return launch.run_under_mpiexec(arguments.ranks, arguments.arguments, flag)

    def prepare(ranks: int) -> tuple[Config, Path, FolderLock]:
        """On rank 0 of ``ranks``: the configuration, and the run folder made ready and locked. Raises ConfigError."""
        announce_start(os.environ)
        if arguments.ranks not in (None, ranks):
            problem = f"found {arguments.ranks}, but {ranks} were started"
            raise ConfigError("--ranks", problem, "the number of ranks started, or no --ranks")
        config = _checked(run, output, ranks)
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
    if inside_mpi_launch(os.environ):
        problem = "started by an MPI launcher, but it starts the ranks of its runs itself"
        raise ConfigError("fedmpi sweep", problem, "--ranks P without a launcher, or --index I with one")
    ranks = arguments.ranks or 1
    jobs = arguments.jobs or _default_jobs(ranks)
    pending = [run for run in sweep.runs if not _finished(run, study / run.name)]
    for run in pending:
        _checked(run, study / run.name, ranks)
    lock = lock_folder(study)
    try:
        return _run_pending(sweep, study, pending, ranks, jobs, _silent if arguments.quiet else _say)
    finally:
        lock.release()


def _run_pending(
    sweep: Sweep, study: Path, pending: list[PlannedRun], ranks: int, jobs: int, say: _Say
) -> int:
    write_list(sweep, study)
    say(
        f"{sweep.name}: {len(sweep.runs)} runs, {len(sweep.runs) - len(pending)} of them complete; {jobs} at a time"
    )
    programs = [_program(run, study, ranks) for run in pending]
    log_starts = {program.name: log_size(program) for program in programs}
    ended: dict[str, int] = {}
    reasons: dict[str, str] = {}

    def on_start(program: Program) -> None:
        save(record_start, study, program.name)

    def on_end(program: Program, code: int) -> None:
        name = program.name
        ended[name] = code
        reasons[name] = "" if code in SUCCEEDED else reason_in(said_since(program, log_starts[name]))
        save(record_end, study, name, code, reasons[name])
        how = end_text(progress(study / name), code, reasons[name])
        say(f"{len(ended):>{len(str(len(pending)))}}/{len(pending)}  {name}: {how}")

    with (
        served(len(programs), os.environ) as environment,
        Pool(jobs, launch.checkpoint_signal(ranks), environment) as pool,
    ):
        pool.run(programs, on_start, on_end)
    failed = {
        name: failure_text(code, reasons[name]) for name, code in ended.items() if code not in SUCCEEDED
    }
    return _conclude(sweep, study, failed, pool.interrupted, say)


def _conclude(sweep: Sweep, study: Path, failed: dict[str, str], interrupted: bool, say: _Say) -> int:
    """The table of all runs, and a line on stderr for each that failed, by its name; the exit code."""
    complete = [run.name for run in sweep.runs if _finished(run, study / run.name)]
    say("")
    for line in table_lines({run.name: state(study, run.name) for run in sweep.runs}):
        say(line)
    say(f"{len(complete)} of {len(sweep.runs)} runs are complete, in {study}")
    for name, how in failed.items():
        print(f"fedmpi: run {name} failed with {how}; see {_log(study, name)}", file=sys.stderr)
    if len(complete) == len(sweep.runs):
        return DONE
    return PREEMPTED if interrupted and not failed else FAILED


def _program(run: PlannedRun, study: Path, ranks: int) -> Program:
    """The run as ``fedmpi run``, with a file of its own: the sweep's may be changed in the meantime."""
    config = study / "configs" / f"{run.name}.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(dumps(run.config), encoding="utf-8")
    output = ["--output", str(study / run.name), "--resume"]
    more = ["--ranks", str(ranks)] if ranks > 1 else []
    command = launch.python_command("-m", "fedmpi", "run", str(config), *output, *more)
    return Program(run.name, command, _log(study, run.name))


def _log(study: Path, name: str) -> Path:
    return study / "logs" / f"{name}.log"


def _finished(run: PlannedRun, output: Path) -> bool:
    """Complete, and of the same configuration. Raises ConfigError where the folder holds another run."""
    try:
        if is_finished(run, output):
            check_output(output, run.config, resume=True, overwrite=False)
            return True
    except ConfigError as error:
        raise error.inside(f"run {run.name}") from None
    return False


def _checked(run: PlannedRun, output: Path, ranks: int) -> Config:
    """The configuration of a run, fit for ``ranks`` and for its folder. Raises ConfigError and EmulationError."""
    try:
        config = configured(argparse.Namespace(config=dumps(run.config), overrides=[]), ranks)
        check_output(output, config, resume=True, overwrite=False)
    except ConfigError as error:
        raise error.inside(f"run {run.name}") from None
    return config


def _default_jobs(ranks: int) -> int:
    """How many runs of so many ranks the cores that this process may use have room for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // ranks)


def _say(line: str) -> None:
    print(line, flush=True)


def _silent(line: str) -> None:
    """What ``--quiet`` leaves of a line."""
