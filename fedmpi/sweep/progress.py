"""How far the runs of a sweep are, as their traces tell, and the list of them that lies beside."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from math import nan
from pathlib import Path

import tomli_w

from fedmpi.config import Config, load
from fedmpi.sweep.plan import PlannedRun, Sweep

LIST_NAME = "sweep.toml"

_ENDS = ("rounds", "stop_at_accuracy", "stop_at_emulated_s", "stop_at_host_s")
"""Keys of ``[experiment]`` that a finished run can be continued with."""


@dataclass(frozen=True)
class Progress:
    """What the trace of a run says; ``status`` is "-" where there is none, "unreadable" where it is damaged.

    ``accuracy`` is the last test accuracy (NaN: never measured).
    """

    status: str
    rounds: int = 0
    emulated_s: float = 0.0
    accuracy: float = nan
    host_s: float = 0.0


def progress(folder: Path) -> Progress:
    """How far the run in ``folder`` is. A run that was killed looks as if it were still running."""
    if not (folder / "trace.h5").is_file():
        return Progress("-")
    from fedmpi.trace import TraceError, read  # pandas comes with it, which other commands do not need

    try:
        trace = read(folder)
    except TraceError:
        return Progress("unreadable")
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
    """Write ``study/sweep.toml``, which names all runs, so that missing ones can be told from there."""
    runs = [{"name": run.name, "label": run.label, "overrides": list(run.overrides)} for run in sweep.runs]
    content = {"sweep": sweep.name, "common": list(sweep.common), "runs": runs}
    study.mkdir(parents=True, exist_ok=True)
    beside = study / f"{LIST_NAME}.{platform.node()}.{os.getpid()}"  # the tasks of a job array all do this
    beside.write_text(tomli_w.dumps(content), encoding="utf-8")
    beside.replace(study / LIST_NAME)


def _ends(config: Config) -> list[object]:
    return [getattr(config.experiment, name) for name in _ENDS]
