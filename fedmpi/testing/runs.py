"""Check of any part in real runs: equal traces on 1 and 3 ranks and after a resume, and exact byte accounts."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fedmpi import trace
from fedmpi.cli.failure_reason import failure_reason
from fedmpi.config import load
from fedmpi.config.parts import is_reference
from fedmpi.config.ranges import TOTAL_SECONDS
from fedmpi.trace import Trace
from fedmpi.trace.schema import TABLES

HOST_COLUMNS = frozenset({"host_s", "rank", "overrun_s", "released_s"})
"""What may differ between placements: host times, and where a client was trained."""

_SMALL = (
    "experiment.rounds=6",
    "experiment.evaluate_every=1",
    "clients.count=6",
    "clients.per_round=4",
    "model.hidden=[16]",
    "training.local_steps=2",
    "training.batch_size=16",
)


def check_runs(
    config: str | Path, *overrides: str, ranks: Sequence[int] = (1, 3), timeout_s: float = 300
) -> Trace:
    """Run a small federation of ``config`` (a file or preset) with ``overrides`` on each of ``ranks``, and resumed.

    Fewer rounds and clients are set before ``overrides`` are, so that it takes seconds, and the partition iid, unless
    it is one of the user's own. Returns the trace. Raises AssertionError where a run fails, traces differ in anything
    but host times, or bytes do not add up.
    """
    small = list(_SMALL)
    if not is_reference(load(config, overrides).data.partition):
        small.append("data.partition=iid")
    with tempfile.TemporaryDirectory(prefix="fedmpi-check-") as folder:
        given = [str(config), *small, *overrides]
        whole = Path(folder) / "whole"
        _run(given, whole, ranks[0], timeout_s)
        for count in ranks[1:]:
            other = Path(folder) / f"ranks-{count}"
            _run(given, other, count, timeout_s)
            same_traces(whole, other)
        resumed = Path(folder) / "resumed"
        found = trace.read(whole)
        _run([*given, _halfway(found)], resumed, ranks[-1], timeout_s)
        _run([*given, "--resume"], resumed, ranks[0], timeout_s)
        same_traces(whole, resumed, tables=[name for name in TABLES if name != "events"])
    _check_bytes(found)
    return found


def _halfway(found: Trace) -> str:
    """What ends the run after half of its rounds: a moment, as some methods go by how many rounds there are."""
    rounds = int(found.config["experiment"]["rounds"])
    ends_s = found.rounds.end_s[found.rounds["round"] >= 0]
    half_s = float(ends_s.iloc[len(ends_s) // 2 - 1])
    if half_s < TOTAL_SECONDS.low:
        return f"experiment.rounds={rounds // 2}"
    return f"experiment.stop_at_emulated_s={half_s!r}"


def same_traces(one: Path, other: Path, tables: Iterable[str] = TABLES) -> None:
    """Raise AssertionError at the first entry of ``tables`` that differs between two run folders, host times aside."""
    left, right = trace.read(one), trace.read(other)
    for name in tables:
        mine, theirs = getattr(left, name), getattr(right, name)
        assert len(mine) == len(theirs), f"{name}: {len(mine)} and {len(theirs)} rows"
        for column in mine.columns:
            if column not in HOST_COLUMNS:
                _same_bits(mine[column], theirs[column], f"{name}.{column}")


def _same_bits(left: pd.Series, right: pd.Series, what: str) -> None:
    if left.dtype.kind == "f":
        differ = left.to_numpy().view(np.int64) != right.to_numpy().view(np.int64)
        wrong = np.flatnonzero(differ & ~(left.isna().to_numpy() & right.isna().to_numpy()))
    else:
        wrong = np.flatnonzero(left.astype(str).to_numpy() != right.astype(str).to_numpy())
    assert not len(wrong), (
        f"{what} differs first in row {wrong[0]}: {left.iloc[wrong[0]]} and {right.iloc[wrong[0]]}"
    )


def _check_bytes(found: Trace) -> None:
    by_round = found.clients.groupby("round")[["bytes_up", "bytes_down"]].sum()
    for name in ("bytes_up", "bytes_down"):
        recorded = found.rounds.set_index("round")[name].reindex(by_round.index)
        assert (recorded == by_round[name]).all(), f"{name} of a round is not the sum over its participants"
    used, sent = found.clients.entries_used, found.clients.entries_sent
    assert (used <= sent).all(), "more entries were used than were sent"


def _run(arguments: Sequence[str], output: Path, ranks: int, timeout_s: float) -> None:
    command = [sys.executable, "-m", "fedmpi", "run", *arguments, "--output", str(output), "--quiet"]
    command += ["--ranks", str(ranks)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    said = failure_reason(done.stderr)
    assert done.returncode == 0, f"{said} (exit code {done.returncode} of {' '.join(command)})"
