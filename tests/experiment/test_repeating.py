"""Rounds that are trained again: the same learning, bit for bit, and one flipped value is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import fedmpi
from fedmpi.cli.main import main
from fedmpi.cli.verify import _ranges
from fedmpi.experiment import repeating
from fedmpi.experiment.repeating import repeat
from fedmpi.trace import Trace, read

Flip = Callable[[Path, str, str, int], None]

CONFIG = """
[experiment]
seed = 3
rounds = 7
evaluate_every = 2
checkpoint_every = 3
[clients]
count = 6
per_round = 4
[model]
hidden = [8]
[training]
momentum = 0.0
[sparsification]
method = "fab"
[k_control]
method = "ogd_sign"
[pruning]
method = "prunefl"
reconfigure_every = 2
[emulation.compute]
model = "linear"
profile = "raspberry-pi-4"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repeated") / "run"
    fedmpi.run(CONFIG, output=folder, quiet=True)
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture
def earlier(copy: Path) -> Path:
    """The run as a kill after its last round would have left it: the newest checkpoint is that before round 6."""
    folders = sorted(
        (copy / "checkpoint").iterdir(), key=lambda path: int("".join(filter(str.isdigit, path.name)))
    )
    for folder in folders[1:]:
        shutil.rmtree(folder)
    return copy


@pytest.fixture
def flip(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str, str, int], None]:
    """Read a value of a folder's trace as one more than was recorded, with checksums that agree all the same."""

    def change(folder: Path, table: str, column: str, row: int) -> None:
        def changed(path: Path) -> Trace:
            found = read(path)
            if Path(path) == folder:
                getattr(found, table).loc[row, column] += 1
            return found

        monkeypatch.setattr(repeating, "read", changed)

    return change


def test_what_was_learned_comes_out_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: os.stat(path).st_mtime_ns for path in sorted(run.rglob("*"))}
    assert main(["verify", str(run), "--repeat", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "3 rounds trained again: 0 to 2",
        "the model of the last checkpoint was evaluated again",
        "what was learned is what was recorded",
    ]
    assert {path: os.stat(path).st_mtime_ns for path in sorted(run.rglob("*"))} == before


def test_no_more_rounds_than_there_are(run: Path) -> None:
    assert repeat(run, 100).rounds == tuple(range(7))


@pytest.mark.parametrize(
    ("table", "column", "row"),
    [
        ("rounds", "train_loss", 1),
        ("rounds", "k", 2),
        ("clients", "entries_used", 5),
        ("layers", "active", 0),
    ],
)
def test_one_flipped_value_of_a_repeated_round_is_found(
    copy: Path, flip: Flip, table: str, column: str, row: int
) -> None:
    flip(copy, table, column, row)
    (found,) = repeat(copy, 3).differences
    assert (found.table, found.column) == (table, column)
    assert found.recorded == found.computed + 1


def test_a_value_that_only_one_of_them_has_is_found(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_one(path: Path) -> Trace:
        found = read(path)
        if Path(path) == copy:
            found.rounds.loc[1, "train_loss"] = float("nan")
        return found

    monkeypatch.setattr(repeating, "read", without_one)
    (found,) = repeat(copy, 3).differences
    assert (found.table, found.column, found.row) == ("rounds", "train_loss", "round 1")


def test_the_last_evaluation_is_that_of_the_checkpoint(copy: Path, flip: Flip) -> None:
    flip(copy, "rounds", "test_accuracy", 6)
    (found,) = repeat(copy, 1).differences
    assert (found.row, found.column) == ("round 6, by the checkpoint", "test_accuracy")


def test_a_model_that_was_pruned_after_its_evaluation_is_not_evaluated_again(tmp_path: Path) -> None:
    """The mask changes after every second round, and so after the last of six."""
    fedmpi.run(CONFIG, "experiment.rounds=6", output=tmp_path / "run", quiet=True)
    found = repeat(tmp_path / "run", 1)
    assert found.differences == ()
    assert not found.evaluated
    assert found.notes == (
        "the model of the checkpoint, whose mask is another than that with which it was evaluated",
    )


def test_rounds_after_a_checkpoint(earlier: Path, flip: Flip) -> None:
    found = repeat(earlier, 2)
    assert not found.differences
    assert found.rounds[:2] == (0, 1)
    assert len(found.rounds) > 2
    assert not found.evaluated
    flip(earlier, "rounds", "train_loss", found.rounds[-1])
    (difference,) = repeat(earlier, 2).differences
    assert difference.row == f"round {found.rounds[-1]}"


def test_a_trace_alone_has_no_checkpoint(copy: Path) -> None:
    shutil.rmtree(copy / "checkpoint")
    found = repeat(copy, 1)
    assert found.notes == ("rounds after a checkpoint, of which the folder has none",)
    assert (found.rounds, found.evaluated, found.differences) == ((0,), False, ())


def test_a_damaged_checkpoint_is_no_checkpoint(copy: Path) -> None:
    for path in (copy / "checkpoint").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-7])
    found = repeat(copy, 1)
    assert found.rounds == (0,)
    assert found.notes[0].startswith("rounds after a checkpoint, of which none can be read: ")


@pytest.mark.parametrize(
    ("rounds", "text"), [((), "none"), ((4,), "4"), ((0, 1, 2, 9), "0 to 2, 9"), ((1, 3, 4), "1, 3 to 4")]
)
def test_numbers_of_rounds_in_words(rounds: tuple[int, ...], text: str) -> None:
    assert _ranges(rounds) == text
