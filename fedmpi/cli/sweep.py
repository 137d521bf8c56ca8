"""List or run the runs of a sweep: many configurations from one TOML file.

``--list`` tells what there is, ``--index I`` runs one, as a task of a job array does, and without either all are
run, several at a time. Runs that are complete are left alone, those that were interrupted go on from their
checkpoints. ``fedmpi.sweep`` describes the file.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from math import isnan
from pathlib import Path

from fedmpi.cli import launch, stopped
from fedmpi.cli.configured import configured
from fedmpi.cli.output import check_output, lock_folder, prepare_output
from fedmpi.cli.process_pool import Pool, Program
from fedmpi.cli.supervisor import announce_start
from fedmpi.config import Config, ConfigError, dumps
from fedmpi.config.errors import shown_key
from fedmpi.experiment.folder_lock import FolderLock
from fedmpi.mpi import stop_signals
from fedmpi.mpi.guards import inside_mpi_launch
from fedmpi.sweep import (
    PlannedRun,
    Progress,
    Sweep,
    is_finished,
    plan,
    progress,
    study_names,
    study_text,
    write_list,
)

_DONE, _FAILED, _PREEMPTED = 0, 1, 75

_Say = Callable[[str], None]

_UNBOUND = {"OMPI_MCA_hwloc_base_binding_policy": "none", "PRTE_MCA_hwloc_default_binding_policy": "none"}
"""Open MPI lays the ranks of every launch on the first cores, and those of several launches on the same."""


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
        "--list", action="store_true", help="print index, status, name and changes of every run"
    )
    what.add_argument("--index", type=_at_least(0), metavar="I", help="run the one with this index alone")
    what.add_argument("--print", action="store_true", help="print the TOML text of a sweep of fedmpi's own")
    parser.add_argument("--ranks", type=_at_least(1), metavar="P", help="number of MPI ranks of a run")
    parser.add_argument(
        "--jobs", type=_at_least(1), metavar="N", help="runs at the same time (default: cores / ranks)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the run folders (default: runs/SWEEP)"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")


def execute(arguments: argparse.Namespace) -> int:
    """0 when all runs that were asked for are complete, 75 when they were interrupted, 1 when one failed."""
    if arguments.sweep is None:
        _list_studies()
        return _DONE
    if arguments.print:
        print(study_text(arguments.sweep), end="")
        return _DONE
    sweep = plan(arguments.sweep, arguments.overrides)
    study = arguments.output if arguments.output is not None else Path("runs") / sweep.name
    if arguments.list:
        _list(sweep, study)
        return _DONE
    if arguments.index is not None:
        return _run_one(sweep, study, arguments)
    return _run_all(sweep, study, arguments)


def _list_studies() -> None:
    names = study_names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {study_text(name).partition(chr(10))[0].lstrip('# ')}")


def _list(sweep: Sweep, study: Path) -> None:
    states = [progress(study / run.name).status for run in sweep.runs]
    names = max(len(run.name) for run in sweep.runs)
    for run, state in zip(sweep.runs, states, strict=True):
        line = f"{run.index:>{len(str(len(sweep.runs)))}}  {state:10}  {run.name:{names}}"
        print(f"{line}  {' '.join(run.overrides)}".rstrip())


def _run_one(sweep: Sweep, study: Path, arguments: argparse.Namespace) -> int:
    """Run one on the ranks this was started with, or start ``mpiexec``; the exit code of the experiment."""
    if arguments.index >= len(sweep.runs):
        raise ConfigError("--index", f"found {arguments.index}", f"0 to {len(sweep.runs) - 1}")
    if arguments.jobs is not None:
        raise ConfigError("--jobs", "found beside --index, which is for one run", "--index without --jobs")
    run = sweep.runs[arguments.index]
    output = study / run.name
    if _finished(run, output):
        if launch.rank(os.environ) == 0 and not arguments.quiet:
            print(f"{run.name}: complete already", flush=True)
        return _DONE
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
    if code == _PREEMPTED:
        stopped.say_with_checkpoint(shlex.join(["fedmpi", *arguments.arguments]))
    return code


def _run_all(sweep: Sweep, study: Path, arguments: argparse.Namespace) -> int:
    if inside_mpi_launch(os.environ):
        problem = "started by an MPI launcher, but it starts the ranks of its runs itself"
        raise ConfigError("fedmpi sweep", problem, "--ranks P without a launcher, or --index I with one")
    ranks = arguments.ranks or 1
    jobs = arguments.jobs or max(1, len(os.sched_getaffinity(0)) // ranks)
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
    ended: dict[str, int] = {}

    def on_end(program: Program, code: int) -> None:
        ended[program.name] = code
        now = progress(study / program.name)
        say(
            f"{len(ended):>{len(str(len(pending)))}}/{len(pending)}  {program.name}: {_described(now, code, program)}"
        )

    environment = {**os.environ, **_UNBOUND} if jobs > 1 else os.environ
    with Pool(jobs, launch.checkpoint_signal(ranks), environment) as pool:
        pool.run(programs, lambda program: None, on_end)
    return _conclude(sweep, study, ended, pool.interrupted, say)


def _conclude(sweep: Sweep, study: Path, ended: dict[str, int], interrupted: bool, say: _Say) -> int:
    states = {run.name: progress(study / run.name) for run in sweep.runs}
    complete = [run.name for run in sweep.runs if _finished(run, study / run.name)]
    say("")
    for line in _table(states):
        say(line)
    say(f"{len(complete)} of {len(sweep.runs)} runs are complete, in {study}")
    failed = [name for name, code in ended.items() if code not in (_DONE, _PREEMPTED)]
    for name in failed:
        print(
            f"fedmpi: run {name} failed with exit code {ended[name]}; see {_log(study, name)}",
            file=sys.stderr,
        )
    if len(complete) == len(sweep.runs):
        return _DONE
    return _PREEMPTED if interrupted and not failed else _FAILED


def _table(states: dict[str, Progress]) -> list[str]:
    width = max(map(len, states))
    lines = [
        f"{'run':{width}}  {'status':10}  {'rounds':>7}  {'accuracy':>8}  {'emulated s':>10}  {'host s':>8}"
    ]
    for name, state in states.items():
        accuracy = "-" if isnan(state.accuracy) else f"{state.accuracy:.4f}"
        lines.append(
            f"{name:{width}}  {state.status:10}  {state.rounds:>7}  {accuracy:>8}  "
            f"{state.emulated_s:>10.1f}  {state.host_s:>8.1f}"
        )
    return lines


def _described(state: Progress, code: int, program: Program) -> str:
    if code not in (_DONE, _PREEMPTED):
        lines = program.log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        return f"failed with exit code {code}: {last}"
    accuracy = "" if isnan(state.accuracy) else f", accuracy {state.accuracy:.4f}"
    return f"{state.status}, {state.rounds} rounds in {state.host_s:.0f} s{accuracy}"


def _program(run: PlannedRun, study: Path, ranks: int) -> Program:
    """The run as ``fedmpi run``, with a file of its own: the sweep's may be changed in the meantime."""
    config = study / "configs" / f"{run.name}.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(dumps(run.config), encoding="utf-8")
    output = ["--output", str(study / run.name), "--resume"]
    more = ["--ranks", str(ranks)] if ranks > 1 else []
    return Program(
        run.name, [sys.executable, "-m", "fedmpi", "run", str(config), *output, *more], _log(study, run.name)
    )


def _log(study: Path, name: str) -> Path:
    return study / "logs" / f"{name}.log"


def _finished(run: PlannedRun, output: Path) -> bool:
    """Complete, and of the same configuration. Raises ConfigError where the folder holds another run."""
    try:
        if is_finished(run, output):
            check_output(output, run.config, resume=True, overwrite=False)
            return True
    except ConfigError as error:
        raise _of_run(run, error) from None
    return False


def _checked(run: PlannedRun, output: Path, ranks: int) -> Config:
    """The configuration of a run, fit for ``ranks`` and for its folder. Raises ConfigError and EmulationError."""
    try:
        config = configured(argparse.Namespace(config=dumps(run.config), overrides=[]), ranks)
        check_output(output, config, resume=True, overwrite=False)
    except ConfigError as error:
        raise _of_run(run, error) from None
    return config


def _of_run(run: PlannedRun, error: ConfigError) -> ConfigError:
    return ConfigError(f"run {run.name}: {shown_key(error.key)}", error.problem, error.allowed)


def _say(line: str) -> None:
    print(line, flush=True)


def _silent(line: str) -> None:
    """What ``--quiet`` leaves of a line."""


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"found {text}; allowed: an integer of at least {least}")
        return int(text)

    return number
