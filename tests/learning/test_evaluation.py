"""Evaluation in fixed blocks."""

import numpy as np
import pytest
import torch
from torch import nn

from fedmpi.learning.evaluation import block_slices, evaluate_blocks, sample_loss
from fedmpi.learning.flat import FlatModel

GENERATOR = torch.Generator().manual_seed(5)
SAMPLES = torch.rand(53, 1, 5, 5, generator=GENERATOR)
LABELS = torch.randint(0, 4, (53,), generator=GENERATOR)


def _model() -> FlatModel:
    torch.manual_seed(1)
    return FlatModel(
        nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(27, 4)
        )
    )


def _blocks(size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(SAMPLES[s], LABELS[s]) for s in block_slices(len(SAMPLES), size)]


def test_blocks_cover_all_samples_once() -> None:
    assert block_slices(10, 4) == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert block_slices(8, 4) == [slice(0, 4), slice(4, 8)]
    assert block_slices(0, 4) == []


@pytest.mark.parametrize("loss", ["cross_entropy", "bce_one_hot"])
def test_sums_are_those_of_the_whole_set(loss: str) -> None:
    model = _model()
    rows = evaluate_blocks(model, _blocks(16), loss)
    assert rows.shape == (4, 3)
    assert rows.dtype == np.float64
    assert rows[:, 2].tolist() == [16, 16, 16, 5]
    model.module.eval()
    logits = model.module(SAMPLES).detach()
    assert rows[:, 1].sum() == (logits.argmax(1) == LABELS).sum().item()
    whole = evaluate_blocks(model, [(SAMPLES, LABELS)], loss)
    assert rows[:, 0].sum() == pytest.approx(whole[0, 0], rel=1e-6)


def test_a_block_gives_the_same_bits_wherever_it_lies() -> None:
    model = _model()
    rows = evaluate_blocks(model, _blocks(7), "cross_entropy")
    alone = [
        evaluate_blocks(model, [(x.clone(), y.clone())], "cross_entropy")[0] for x, y in reversed(_blocks(7))
    ]
    assert np.array_equal(rows, np.array(alone[::-1]))


def test_modes_and_statistics_are_left_as_they_were() -> None:
    model = _model()
    model.module.get_submodule("1").eval()  # frozen statistics of a user's model
    before = model.vector.clone()
    modes = [child.training for child in model.module.modules()]
    evaluate_blocks(model, _blocks(16), "cross_entropy")
    assert [child.training for child in model.module.modules()] == modes
    assert torch.equal(model.vector, before)


def test_modes_are_restored_after_an_error() -> None:
    model = _model()
    with pytest.raises(RuntimeError):
        evaluate_blocks(model, [(torch.rand(2, 1, 3, 3), LABELS[:2])], "cross_entropy")
    assert all(child.training for child in model.module.modules())


def test_uint8_blocks_are_scaled() -> None:
    model = _model()
    x = (SAMPLES * 255).to(torch.uint8)
    found = evaluate_blocks(model, [(x, LABELS)], "cross_entropy")
    expected = evaluate_blocks(model, [(x.float() / 255, LABELS)], "cross_entropy")
    assert np.array_equal(found, expected)


def test_no_blocks_give_no_rows() -> None:
    assert evaluate_blocks(_model(), [], "cross_entropy").shape == (0, 3)


def test_loss_of_one_sample_under_the_loaded_weights() -> None:
    model = _model()
    first = sample_loss(model, SAMPLES[3:4], LABELS[3:4], "cross_entropy")
    model.module.eval()
    expected = nn.functional.cross_entropy(model.module(SAMPLES[3:4]), LABELS[3:4])
    assert first == pytest.approx(expected.item(), rel=1e-6)
    model.load(torch.zeros(model.parameter_count))
    assert sample_loss(model, SAMPLES[3:4], LABELS[3:4], "cross_entropy") == pytest.approx(
        np.log(4), rel=1e-6
    )


@pytest.mark.parametrize("layer", [nn.SiLU(inplace=True), nn.Mish(inplace=True)])
def test_a_model_that_changes_its_input_in_place_finds_it_as_it_was(layer: nn.Module) -> None:
    torch.manual_seed(1)
    model = FlatModel(nn.Sequential(layer, nn.Flatten(), nn.Linear(25, 4)))
    samples = SAMPLES.clone()
    blocks = [(samples[s], LABELS[s]) for s in block_slices(len(samples), 16)]
    first = evaluate_blocks(model, blocks, "cross_entropy")
    loss = sample_loss(model, samples[3:4], LABELS[3:4], "cross_entropy")
    assert torch.equal(samples, SAMPLES)
    assert np.array_equal(evaluate_blocks(model, blocks, "cross_entropy"), first)
    assert sample_loss(model, samples[3:4], LABELS[3:4], "cross_entropy") == loss
