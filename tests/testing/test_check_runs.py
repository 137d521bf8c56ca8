"""The check of whole runs takes a user's configuration as it is, and says in one line why a run failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmpi.testing import check_runs

MINE = Path(__file__).resolve().parents[1] / "parts" / "mine"

CONFIGURATION = """
[data]
dataset = "spirals:spirals"
path = "."
partition = "strides:overlapping_strides"

[data.options]
samples = 120
shared_fraction = 0.5

[training]
batch_size = 8
"""


@pytest.fixture(autouse=True)
def in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(MINE)
    monkeypatch.syspath_prepend(MINE)


def test_a_partition_of_ones_own_stays(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(CONFIGURATION)
    found = check_runs(file, ranks=(1, 2))
    assert found.config["data"]["partition"] == "strides:overlapping_strides"
    assert found.devices.samples.sum() > 96  # neighbours share samples


def test_what_failed_is_one_line() -> None:
    with pytest.raises(AssertionError) as caught:
        check_runs("quickstart", "emulation.availability.probability=0.5")
    assert str(caught.value).startswith(
        'fedmpi: [emulation.availability] probability: found 0.5 with model "always"'
    )
    assert "\n" not in str(caught.value)


def test_a_method_that_goes_by_the_number_of_rounds_is_resumed_with_as_many() -> None:
    dense = ("sparsification.method=dense", "k_control.method=fixed")
    found = check_runs(
        "quickstart", *dense, "pruning.method=iterative", "pruning.target_density=0.4", ranks=(1,)
    )
    assert found.rounds.density.is_monotonic_decreasing
    assert found.rounds.density.iloc[-1] < 1
