"""Large linear layers whose gradients add themselves up: the same training in fewer passes."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning import summed_linear
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.minibatches import batch_order
from fedmpi.learning.training import LocalTask, train


def known() -> nn.Module:
    """Linear layers over the last of three dimensions, and over two."""
    return nn.Sequential(
        nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)
    )


def _trained(
    monkeypatch: pytest.MonkeyPatch, large: int, steps: int, masked: bool, need_weights: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    monkeypatch.setattr(summed_linear, "LARGE", large)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = FlatModel(known())
        x, y = torch.randn(20, 2, 6), torch.randint(0, 3, (20,))
    count = model.parameter_count
    mask = (torch.arange(count) % 3 > 0).float() if masked else None
    start = model.vector.clone()
    if mask is not None:
        start *= mask
    sums = torch.full((count,), torch.nan)
    training = TrainingConfig(local_steps=steps, batch_size=5)
    rng = np.random.default_rng(0)
    train(
        model,
        start,
        (x, y),
        LocalTask(training, 0.3, rng, direction_sum=sums, mask=mask, need_weights=need_weights),
    )
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
    model = FlatModel(known())
    x, y = torch.randn(20, 2, 6), torch.randint(0, 3, (20,))
    sums = torch.empty(model.parameter_count)
    start = model.vector.clone()
    for changes, wanted in (({"momentum": 0.5}, sums), ({"weight_decay": 0.1}, sums), ({}, None)):
        training = TrainingConfig(local_steps=2, batch_size=5, **changes)
        train(model, start, (x, y), LocalTask(training, 0.1, np.random.default_rng(0), direction_sum=wanted))
    with pytest.raises(AssertionError, match="a total was made"):
        train(
            model,
            start,
            (x, y),
            LocalTask(TrainingConfig(), 0.1, np.random.default_rng(0), direction_sum=sums),
        )


class Users(nn.Module):
    """Linear layers whose weights are used in one of many ways."""

    def __init__(self, use: str, width: int) -> None:
        super().__init__()
        self.use = use
        self.first = nn.Linear(6, width)
        self.second = nn.Linear(width, width)
        self.unused = nn.Linear(width, 5)
        self.attention = nn.MultiheadAttention(width, 1, batch_first=True)
        self.last = nn.Linear(2 * width, 3)
        if use == "parametrized":
            nn.utils.parametrizations.weight_norm(self.second)
        if use == "hook":
            self.second.register_forward_hook(lambda layer, _, y: y + layer.weight.sum())
        if use == "gradient hook":
            self.second.weight.register_hook(lambda gradient: 3 * gradient)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(self.first(x))
        second = self.second
        if self.use == "normalized":
            y = F.linear(y, F.normalize(second.weight))
        elif self.use == "twice":
            y = second(torch.tanh(second(y)))
        elif self.use == "penalty":
            y = second(y) + second.weight.square().mean()
        elif self.use == "attention":
            y = self.attention(y, y, y, need_weights=False)[0]
        elif self.use == "slope":  # the gradient of a gradient
            z = second(y.requires_grad_())
            y = z + torch.autograd.grad(z.square().sum(), y, create_graph=True)[0]
        elif self.use == "checkpoint":
            y = checkpoint(second, y, use_reentrant=False)
        elif self.use == "functional":
            y = torch.func.functional_call(second, {"weight": 2 * second.weight}, (y,))
        elif self.use == "vmap":
            y = torch.func.vmap(second)(y)
        elif self.use == "autocast":
            with torch.autocast("cpu", torch.bfloat16):
                y = second(y).float()
        elif self.use == "no gradient":
            with torch.no_grad():
                y = second(y)
        else:
            y = second(y)
        return self.last(torch.tanh(y).flatten(1))


USES = ["plain", "normalized", "twice", "penalty", "attention", "slope", "checkpoint", "functional"]
USES += ["vmap", "autocast", "parametrized", "hook", "gradient hook", "no gradient"]


@settings(max_examples=20)
@given(widths=st.lists(st.integers(1, 7), max_size=4), steps=st.integers(1, 3), seed=st.integers(0, 99))
def test_sums_of_any_sequence_are_those_of_plain_training(widths: list[int], steps: int, seed: int) -> None:
    found = []
    for large in (1, 10**9):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            sizes = [4, *widths]
            layers = [nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(sizes)]
            model = FlatModel(nn.Sequential(*layers, nn.Linear(sizes[-1], 3)))
            x, y = torch.randn(9, 4), torch.randint(0, 3, (9,))
        assert model.known
        sums, start = torch.full((model.parameter_count,), torch.nan), model.vector.clone()
        training = TrainingConfig(local_steps=steps, batch_size=4)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(summed_linear, "LARGE", large)
            train(
                model,
                start,
                (x, y),
                LocalTask(training, 0.3, np.random.default_rng(seed), direction_sum=sums),
            )
        found.append((sums, model.vector.clone()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@settings(max_examples=40)
@given(
    use=st.sampled_from(USES),
    width=st.integers(1, 9),
    steps=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_every_gradient_is_the_true_one_whatever_uses_the_weights(
    use: str, width: int, steps: int, seed: int
) -> None:
    """Against torch's own optimizer on the same batches."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = Users(use, width)
        x, y = torch.randn(12, 2, 6), torch.randint(0, 3, (12,))
    reference = copy.deepcopy(module)
    if use == "gradient hook":
        reference.second.weight.register_hook(lambda gradient: 3 * gradient)  # copies have no hooks
    training = TrainingConfig(local_steps=steps, batch_size=4)
    order, bounds = batch_order(12, training, np.random.default_rng(seed))
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    expected = [torch.zeros_like(parameter) for parameter in reference.parameters()]
    for first, stop in bounds:
        optimizer.zero_grad()
        taken = torch.from_numpy(order[first:stop])
        F.cross_entropy(reference(x[taken]), y[taken]).backward()
        for total, parameter in zip(expected, reference.parameters(), strict=True):
            total += torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        optimizer.step()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summed_linear, "LARGE", 1)
        model = FlatModel(module)
        sums = torch.full((model.parameter_count,), torch.nan)
        rng, start = np.random.default_rng(seed), model.vector.clone()
        train(model, start, (x, y), LocalTask(training, 0.1, rng, direction_sum=sums, torch_seed=0))
    torch.testing.assert_close(sums, torch.cat([total.flatten() for total in expected]), rtol=1e-4, atol=1e-6)
    weights = torch.cat([parameter.detach().flatten() for parameter in reference.parameters()])
    torch.testing.assert_close(model.vector[: model.parameter_count], weights, rtol=1e-4, atol=1e-6)
