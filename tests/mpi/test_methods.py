"""Every method and controller: the same trace on 1, 2 and 3 ranks, and after an interruption on other ranks."""

from pathlib import Path

import pytest
from experiments import VARIANTS, assert_same_trace

from fedmpi import trace

PROGRAM = Path(__file__).with_name("programs_methods.py")
PLACEMENTS = {1: "straight", 2: "interrupted", 3: "straight"}
"""Ranks, and whether the runs are stopped on the way and resumed."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, launch) -> dict[int, Path]:
    folders = {}
    for ranks, way in PLACEMENTS.items():
        folders[ranks] = tmp_path_factory.mktemp(f"on-{ranks}")
        launch(ranks, PROGRAM, folders[ranks], way, python_path=PROGRAM.parent)
    return folders


@pytest.mark.parametrize("variant", VARIANTS)
def test_trace_depends_neither_on_placement_nor_on_an_interruption(
    runs: dict[int, Path], variant: str
) -> None:
    one = trace.read(runs[1] / variant)
    assert one.attributes["status"] == "completed"
    assert len(one.rounds) == 7
    assert_same_trace(runs[1] / variant, runs[3] / variant)
    # Where a run ended for a while is an event of its own.
    assert_same_trace(runs[1] / variant, runs[2] / variant, ("rounds", "clients", "layers"))
