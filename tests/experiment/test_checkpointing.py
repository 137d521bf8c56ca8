"""What a checkpoint must hold to be taken: exactly what the run would save again."""

import numpy as np
import pytest

from fedmpi.checkpoint import Checkpoint, CheckpointError
from fedmpi.checkpoint.contents import checked_weights, stored_mask
from fedmpi.cli import main as cli
from fedmpi.experiment.checkpointing import _check_taken
from fedmpi.pruning.mask import Mask

ARRAYS = {"version": np.arange(3), "lost": np.zeros(2, np.float32)}
NUMBERS = {"emulated_s": 1.5, "k": {"at": (1, 2), "best": float("nan"), "none": None}}
STORED = {"emulated_s": 1.5, "k": {"at": [1, 2], "best": float("nan"), "none": None}}


def test_what_is_saved_again_alike_is_taken():
    _check_taken((ARRAYS, NUMBERS), ({**ARRAYS, "more": np.zeros(1)}, {**STORED, "model": {}}))


@pytest.mark.parametrize(
    "lost",
    [
        np.zeros(2),
        np.zeros(1, np.float32),
        np.zeros((2, 1), np.float32),
        np.array([0, 1], np.float32),
        np.array([0.0, -0.0], np.float32),
    ],
)
def test_arrays_that_were_converted_repeated_or_changed_are_refused(lost):
    with pytest.raises(ValueError, match=r"array lost is float\d\d of shape"):
        _check_taken((ARRAYS, {}), ({**ARRAYS, "lost": lost}, {}))


@pytest.mark.parametrize(
    "stored",
    [
        {**STORED, "emulated_s": "1.5"},
        {**STORED, "emulated_s": None},
        {**STORED, "emulated_s": float("nan")},
        {**STORED, "k": [1, 2]},
        {**STORED, "k": {**STORED["k"], "at": [1]}},
        {**STORED, "k": {**STORED["k"], "at": [1, 3]}},
        {**STORED, "k": {**STORED["k"], "best": 0.0}},
        {**STORED, "k": {"at": [1, 2], "best": float("nan")}},
    ],
)
def test_numbers_of_another_kind_are_refused(stored):
    with pytest.raises(ValueError, match=r"emulated_s is|k is"):
        _check_taken(({}, NUMBERS), ({}, stored))


def test_what_is_missing_is_refused():
    for stored in ((ARRAYS, {}), ({}, STORED)):
        with pytest.raises(KeyError):
            _check_taken((ARRAYS, NUMBERS), stored)


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({}, "no weights"),
        ({"weights": np.zeros(3)}, r"float64 weights of shape \(3,\)"),
        ({"weights": np.zeros((3, 1), np.float32)}, r"float32 weights of shape \(3, 1\)"),
        ({"weights": np.zeros(4, np.float32)}, r"float32 weights of shape \(4,\)"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path, arrays, found):
    with pytest.raises(CheckpointError, match=f"holds {found}, the model has 3 in float32"):
        checked_weights(tmp_path, arrays, 3)
    weights = np.arange(3, dtype=np.float32)
    assert checked_weights(tmp_path, {"weights": weights}, 3) is weights


def test_masks_of_another_model_are_refused(tmp_path):
    bits = Mask.of(np.arange(20) % 3 == 0).to_bits()
    assert stored_mask(tmp_path, {}, 20) is None
    mask = stored_mask(tmp_path, {"mask": bits}, 20)
    assert mask is not None
    assert mask.count == 7
    for wrong in (bits[:-1], bits.astype(np.float64), np.zeros(0)):
        with pytest.raises(CheckpointError, match="holds no mask of 20 parameters"):
            stored_mask(tmp_path, {"mask": wrong}, 20)


def test_what_clients_kept_is_refused_where_it_was_converted(tmp_path, monkeypatch, capsys):
    command = ["run", "quickstart", "experiment.rounds=2", "--output", str(tmp_path / "run"), "--quiet"]
    assert cli.main(command) == 0
    assert cli.main([*command, "--resume"]) == 0
    clients = Checkpoint.clients

    def converted(checkpoint, ids):
        found = clients(checkpoint, ids)
        return {n: {name: each.astype(np.float64) for name, each in own.items()} for n, own in found.items()}

    monkeypatch.setattr(Checkpoint, "clients", converted)
    assert cli.main([*command, "--resume"]) == 1
    assert "or damaged (array accumulated is float64 of shape (4810,))" in capsys.readouterr().err
