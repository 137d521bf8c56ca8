"""How far the runs of a sweep are, by their traces, locks and outcomes, and the list of them that lies beside."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path

import tomli_w

from fedmpi.config import Config, load
from fedmpi.config.errors import PREEMPTED
from fedmpi.experiment.folder_lock import owner_of
from fedmpi.sweeps.outcome import OutcomeError, failure_text, outcome_path, read_outcome
from fedmpi.sweeps.plan import PlannedRun, Sweep

LIST_NAME = "sweep.toml"
NOT_STARTED = "-"

_NO_END = "it ended without saying so: killed, or its machine went down"

ENDS = ("rounds", "stop_at_accuracy", "stop_at_emulated_s", "stop_at_host_s")
"""Keys of ``[experiment]`` that a finished run can be continued with."""


@dataclass(frozen=True)
class Progress:
    """How far a run is; ``status`` is "-" where nothing is there, "unreadable" where what is there is damaged.

    ``accuracy`` is the last test accuracy (NaN: never measured), ``reason`` one line that says more of the status.
    """

    status: str
    rounds: int = 0
    emulated_s: float = 0.0
    accuracy: float = nan
    host_s: float = 0.0
    reason: str = ""


def state(study: Path, name: str) -> Progress:
    """How far a run of the study in ``study`` is, whoever started it, and why it failed if it did.

    Running is what a living process has locked, or is about to. Else the later of two counts: what the trace says,
    and how the last start by a sweep ended.
    """
    folder = study / name
    now = progress(folder)
    if owner := owner_of(folder):
        return replace(now, status="running", reason=f"process {owner.pid} on {owner.host}")
    try:
        outcome = read_outcome(study, name)
    except OutcomeError as error:
        return replace(now, status="unreadable", reason=str(error))
    ended = replace(now, status="failed", reason=_NO_END) if now.status == "running" else now
    if outcome is None or (
        now.status != "running" and _changed_after(folder / "trace.h5", outcome_path(study, name))
    ):
        return ended
    if outcome.exit_code is None:
        if outcome.lost():
            return replace(now, status="failed", reason=_NO_END)
        return replace(now, status="running", reason=f"started {outcome.started}")
    if outcome.exit_code == PREEMPTED:
        return replace(now, status="preempted")
    if outcome.exit_code:
        return replace(now, status="failed", reason=failure_text(outcome.exit_code, outcome.reason))
    return ended


def progress(folder: Path) -> Progress:
    """How far the trace in ``folder`` is. A run that was killed looks as if it were still running."""
    if not (folder / "trace.h5").is_file():
        return Progress(NOT_STARTED)
    from fedmpi.trace import TraceError, read  # pandas comes with it, which other commands do not need

    try:
        trace = read(folder)
    except TraceError as error:
        return Progress("unreadable", reason=str(error))
    rounds = trace.rounds
    status = str(trace.attributes["status"])
    if rounds.empty:
        return Progress(status)
    measured = rounds.test_accuracy.dropna()
    return Progress(
        status=status,
        rounds=int((rounds.phase == "federated").sum()),
        emulated_s=float(rounds.end_s.iloc[-1]),
        accuracy=float(measured.iloc[-1]) if len(measured) else nan,
        host_s=float(rounds.host_s.sum()),
    )


def is_finished(run: PlannedRun, folder: Path) -> bool:
    """Whether the run in ``folder`` is complete, and would not go on with the ends of ``run`` either."""
    if progress(folder).status != "completed" or not (folder / "config.toml").is_file():
        return False
    return _ends(load(folder / "config.toml")) == _ends(run.config)


def write_list(sweep: Sweep, study: Path) -> None:
    """Write ``study/sweep.toml``, which names all runs, so that missing ones are known from there."""
    runs = [{"name": run.name, "label": run.label, "overrides": list(run.overrides)} for run in sweep.runs]
    content = {"sweep": sweep.name, "common": list(sweep.common), "runs": runs}
    study.mkdir(parents=True, exist_ok=True)
    beside = study / f"{LIST_NAME}.{platform.node()}.{os.getpid()}"  # the tasks of a job array all do this
    beside.write_text(tomli_w.dumps(content), encoding="utf-8")
    beside.replace(study / LIST_NAME)


def _changed_after(path: Path, other: Path) -> bool:
    try:
        return path.stat().st_mtime_ns > other.stat().st_mtime_ns
    except FileNotFoundError:
        return False


def _ends(config: Config) -> list[object]:
    return [getattr(config.experiment, name) for name in ENDS]
