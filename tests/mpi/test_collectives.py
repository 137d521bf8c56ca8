"""Collectives, agreement and shared memory on several ranks: one launch for each number of ranks, one case for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("programs_collectives.py")

CASES = (
    "broadcast",
    "json",
    "gather_and_scatter",
    "sum",
    "send",
    "broadcast in pieces",
    "json in pieces",
    "gather_and_scatter in pieces",
    "sum in pieces",
    "send in pieces",
    "meeting",
    "agreement",
    "shared_memory",
)


@pytest.fixture(scope="module")
def outcomes() -> dict[int, dict[str, str]]:
    """What each case came to, by the number of ranks, as far as they were launched."""
    return {}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_case(launch: Callable, outcomes: dict[int, dict[str, str]], ranks: int, case: str) -> None:
    if ranks not in outcomes:
        lines = launch(ranks, PROGRAM).stdout.splitlines()
        outcomes[ranks] = dict(line.split(": ", 1) for line in lines if ": " in line)
    assert tuple(outcomes[ranks]) == CASES
    assert outcomes[ranks][case] == "right on every rank"
