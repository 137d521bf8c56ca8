"""Collectives, averages, agreement and shared memory: one launch for each library and number of ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from libraries import Mpi, both_mpis

PROGRAM = Path(__file__).with_name("programs_collectives.py")

CASES = (
    "broadcast",
    "json",
    "gather_and_scatter",
    "sum",
    "inbox",
    "send",
    "average",
    "average_of_nothing",
    "average_by_short_segments",
    "broadcast in pieces",
    "json in pieces",
    "gather_and_scatter in pieces",
    "sum in pieces",
    "inbox in pieces",
    "send in pieces",
    "average in pieces",
    "meeting",
    "agreement",
    "shared_memory",
)


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[Path, int], dict[str, str]]:
    """What each case came to, by the library and the number of ranks, as far as they were launched."""
    return {}


@both_mpis
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("case", CASES)
def test_case(
    mpi: Mpi, launch: Callable, outcomes: dict[tuple[Path, int], dict[str, str]], ranks: int, case: str
) -> None:
    if (mpi.python, ranks) not in outcomes:
        lines = launch(ranks, PROGRAM).stdout.splitlines()
        outcomes[mpi.python, ranks] = dict(line.split(": ", 1) for line in lines if ": " in line)
    assert tuple(outcomes[mpi.python, ranks]) == CASES
    assert outcomes[mpi.python, ranks][case] == "right on every rank"
