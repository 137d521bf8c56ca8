"""Large linear layers whose gradients add themselves up: the same training in fewer passes."""

import numpy as np
import pytest
import torch
from torch import nn

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning import summed_linear
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.training import train


class Twice(nn.Module):
    """A linear layer over the last of three dimensions, used twice, and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8, bias=False)
        self.again = nn.Linear(8, 8)
        self.unused = nn.Linear(8, 5)
        self.last = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.again(torch.tanh(self.again(torch.tanh(self.first(x)))))
        return self.last(y.flatten(1))


def _trained(
    monkeypatch: pytest.MonkeyPatch, large: int, steps: int, masked: bool, need_weights: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    monkeypatch.setattr(summed_linear, "LARGE", large)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = FlatModel(Twice())
        x, y = torch.randn(20, 2, 6), torch.randint(0, 3, (20,))
    count = model.parameter_count
    mask = (torch.arange(count) % 3 > 0).float() if masked else None
    start = model.vector.clone()
    if mask is not None:
        start *= mask
    sums = torch.full((count,), torch.nan)
    training = TrainingConfig(local_steps=steps, batch_size=5)
    rng = np.random.default_rng(0)
    train(model, start, x, y, training, 0.3, rng, sums, mask, need_weights=need_weights)
    assert not any("forward" in vars(module) for module in model.module.modules())
    return model.vector.clone(), sums


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_sums_and_weights_are_those_of_plain_training(
    monkeypatch: pytest.MonkeyPatch, steps: int, masked: bool, need_weights: bool
) -> None:
    plain, plain_sums = _trained(monkeypatch, 10**9, steps, masked, need_weights)
    weights, sums = _trained(monkeypatch, 40, steps, masked, need_weights)
    torch.testing.assert_close(sums, plain_sums, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(weights, plain, rtol=1e-5, atol=1e-7)
    if masked:
        pruned = torch.arange(weights.numel()) % 3 == 0
        assert not weights[pruned].any()
        assert sums[pruned].any()


def test_other_training_keeps_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only sums of plain SGD add themselves up: with momentum every direction is needed."""
    monkeypatch.setattr(summed_linear, "LARGE", 1)

    def refuse(*arguments: object) -> None:
        raise AssertionError("a total was made")

    monkeypatch.setattr(summed_linear.Total, "add", refuse)
    model = FlatModel(Twice())
    x, y = torch.randn(20, 2, 6), torch.randint(0, 3, (20,))
    sums = torch.empty(model.parameter_count)
    start = model.vector.clone()
    for changes, wanted in (({"momentum": 0.5}, sums), ({"weight_decay": 0.1}, sums), ({}, None)):
        training = TrainingConfig(local_steps=2, batch_size=5, **changes)
        train(model, start, x, y, training, 0.1, np.random.default_rng(0), wanted)
    with pytest.raises(AssertionError, match="a total was made"):
        train(model, start, x, y, TrainingConfig(), 0.1, np.random.default_rng(0), sums)
