"""How far a run is, how fast it goes here, and what it last warned of: from its trace, while it is going on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import nan

from fedmpi.trace import STOP, Trace

_RECENT_ROUNDS = 50
NO_WARNINGS = ("pruning", "retimed", STOP)
"""Kinds of events that are in the course of things."""

NO_END = "ended without saying so: killed, or its machine went down"


@dataclass(frozen=True)
class RunStatus:
    """How far a run is. NaN: not known. ``round_host_s`` is the mean over the last rounds, ``eta_s`` host seconds.

    ``status`` is that of the trace, or ``NO_END`` where the trace says running and no process has the folder's lock;
    ``owner`` that process, "" where there is none. ``warning`` and ``reason`` (why the run stopped) are "" where there
    was none. ``age_s`` is the time since the trace was last written.
    """

    path: str
    status: str
    owner: str
    initial_rounds: int
    rounds: int
    total_rounds: int
    emulated_s: float
    test_accuracy: float
    host_s: float
    round_host_s: float
    eta_s: float
    warnings: int
    warning: str
    reason: str
    age_s: float


def status_of(trace: Trace, owner: str = "") -> RunStatus:
    """The status of a run with this trace, and ``owner`` as the process that has its folder locked."""
    status = str(trace.attributes["status"])
    if status == "running" and not owner:
        status = NO_END
    rounds = trace.rounds
    federated = rounds[rounds.phase == "federated"]
    total = int(trace.config["experiment"]["rounds"])
    pace_s = float(federated.host_s.iloc[-_RECENT_ROUNDS:].mean()) if len(federated) else nan
    measured = rounds.test_accuracy.dropna()
    warned = trace.events[~trace.events.kind.isin(NO_WARNINGS)]
    stops = trace.events[trace.events.kind == STOP]
    return RunStatus(
        path=str(trace.path),
        status=status,
        owner=owner,
        initial_rounds=len(rounds) - len(federated),
        rounds=len(federated),
        total_rounds=total,
        emulated_s=float(rounds.end_s.iloc[-1]) if len(rounds) else 0.0,
        test_accuracy=float(measured.iloc[-1]) if len(measured) else nan,
        host_s=float(rounds.host_s.sum()),
        round_host_s=pace_s,
        eta_s=pace_s * (total - len(federated)) if status == "running" else nan,
        warnings=len(warned),
        warning="" if warned.empty else "round {round}: {kind}: {detail}".format(**warned.iloc[-1]),
        reason="" if stops.empty else str(stops.detail.iloc[-1]),
        age_s=max(0.0, time.time() - trace.path.stat().st_mtime),
    )
