"""What counts as silence, and rings of real ranks that take leave of each other. Silent ranks: test_signals.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from mpi4py import MPI

from fedmpi.mpi import heartbeat
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.heartbeat import DEFAULT_TIMEOUT_S, Silence

PROGRAM = Path(__file__).with_name("programs_heartbeat.py")


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        ([], 0.0),
        ([(11.0, False)], 1.0),
        ([(11.0, False), (12.5, False)], 2.5),
        ([(11.0, False), (12.0, True)], 0.0),
        ([(11.0, True), (12.0, False)], 1.0),
        ([(500.0, False)], 4.0),  # this rank was suspended itself
        ([(14.0, False), (514.0, False), (515.0, False)], 9.0),
    ],
)
def test_silence_adds_up_while_this_rank_runs(looks: Sequence[tuple[float, bool]], seconds: float) -> None:
    silence = Silence(10.0, longest_gap_s=4.0)
    for now_s, heard in looks:
        silence.look(now_s, heard)
    assert silence.seconds == seconds


def test_what_is_configured_holds_and_a_debugger_turns_the_default_off(monkeypatch) -> None:
    ranks = Ranks.of(MPI.COMM_SELF)
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    assert heartbeat.timeout_s(ranks, None) == DEFAULT_TIMEOUT_S == 600.0
    assert heartbeat.timeout_s(ranks, 0.0) == 0.0
    monkeypatch.setattr(sys, "gettrace", lambda: print)
    assert heartbeat.timeout_s(ranks, None) == 0.0
    assert heartbeat.timeout_s(ranks, 7.0) == 7.0
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    monkeypatch.setitem(sys.modules, "debugpy", None)
    assert heartbeat.timeout_s(ranks, None) == 0.0


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_ring_lasts_over_several_timeouts_and_ends_in_order(launch, ranks: int) -> None:
    """Ranks that compute, sleep, wait in a collective, leave late, or are refused are not silent."""
    done = launch(ranks, PROGRAM)
    assert done.stdout.count("left in order") == ranks
    assert "silent" not in done.stderr
