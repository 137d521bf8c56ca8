"""Several runs of a sweep side by side, each as ``fedmpi run`` in a process of its own, and how they ended."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmpi.cli import launch
from fedmpi.cli.configured import configured
from fedmpi.cli.output import check_output, lock_folder
from fedmpi.cli.process_pool import Pool, Program
from fedmpi.cli.recorded_run import SUCCEEDED, reason_in, save
from fedmpi.cli.sweep_report import end_text, log_size, said_since
from fedmpi.config import Config, ConfigError, dumps
from fedmpi.config.errors import FAILED, PREEMPTED
from fedmpi.mpi.forkserver.stub import served
from fedmpi.mpi.guards import inside_mpi_launch
from fedmpi.sweeps import (
    PlannedRun,
    Sweep,
    failure_text,
    is_finished,
    progress,
    record_end,
    record_start,
    write_list,
)

Say = Callable[[str], None]


def refuse_launcher(command: str, allowed: str) -> None:
    """ConfigError where an MPI launcher has started a command that starts ranks itself."""
    if inside_mpi_launch(os.environ):
        problem = "started by an MPI launcher, but it starts the ranks of its runs itself"
        raise ConfigError(command, problem, allowed)


@dataclass(frozen=True)
class Ended:
    """How runs side by side ended: each that failed, by its name, and whether they were ``interrupted``."""

    failed: Mapping[str, str]
    interrupted: bool

    @property
    def exit_code(self) -> int:
        """That of a command some of whose runs are not complete."""
        return PREEMPTED if self.interrupted and not self.failed else FAILED


def run_side_by_side(
    sweep: Sweep,
    study: Path,
    pending: Sequence[PlannedRun],
    ranks: int,
    jobs: int | None,
    say: Callable[[str], None],
) -> Ended:
    """Run those that are ``pending`` in the folder ``study``, on so many ranks, ``jobs`` at a time (None: as many as
    the cores have room for). Raises ConfigError before any has begun where one cannot be run or the folder is in use.
    """
    for run in pending:
        checked(run, study / run.name, ranks)
    lock = lock_folder(study)
    try:
        return _run_pending(sweep, study, pending, ranks, jobs or default_jobs(ranks), say)
    finally:
        lock.release()


def _run_pending(
    sweep: Sweep, study: Path, pending: Sequence[PlannedRun], ranks: int, jobs: int, say: Say
) -> Ended:
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
    return Ended(failed, pool.interrupted)


def say_failures(study: Path, ended: Ended) -> None:
    """A line on stderr for each run that failed."""
    for name, how in ended.failed.items():
        print(f"fedmpi: run {name} failed with {how}; see {_log(study, name)}", file=sys.stderr)


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


def finished(run: PlannedRun, output: Path) -> bool:
    """Complete, and of the same configuration. Raises ConfigError where the folder holds another run."""
    try:
        if is_finished(run, output):
            check_output(output, run.config, resume=True, overwrite=False)
            return True
    except ConfigError as error:
        raise error.inside(f"run {run.name}") from None
    return False


def checked(run: PlannedRun, output: Path, ranks: int) -> Config:
    """The configuration of a run, fit for ``ranks`` and for its folder. Raises ConfigError and EmulationError."""
    try:
        config = configured(argparse.Namespace(config=dumps(run.config), overrides=[]), ranks)
        check_output(output, config, resume=True, overwrite=False)
    except ConfigError as error:
        raise error.inside(f"run {run.name}") from None
    return config


def default_jobs(ranks: int) -> int:
    """How many runs of so many ranks the cores that this process may use have room for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // ranks)


def say(line: str) -> None:
    print(line, flush=True)


def silent(line: str) -> None:
    """What ``--quiet`` leaves of a line."""
