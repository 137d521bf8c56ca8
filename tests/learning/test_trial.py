"""Models are tried before they are used, and those that cannot be are refused in one line."""

import sys
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedmpi.config.errors import ConfigError
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.trial import Trial, try_out


class Users(nn.Module):
    """A linear layer, and what one test wants of its forward pass."""

    sizes: ClassVar[list[int]] = []
    """Of the batches that came; what a class holds is not put back."""

    def __init__(self, change: Callable[["Users", Tensor], object], outputs: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(4, outputs)
        self.register_buffer("mean", torch.zeros(4))
        self.change = change
        self.calls = 0
        self.seen: list[int] = []
        self.sizes.clear()

    def forward(self, x: Tensor) -> object:
        x = x.flatten(1)
        self.calls += 1
        self.seen.append(len(x))
        self.sizes.append(len(x))
        return self.change(self, x)


def trial(loss: str = "cross_entropy") -> Trial:
    return Trial("m:make", (1, 2, 2), 3, loss, training=(1, 5), evaluation=(2, 7))


def plain(net: Users, x: Tensor) -> Tensor:
    return net.layer(x)


def drawn_and_counted(net: Users, x: Tensor) -> Tensor:
    net.mean = net.mean + x.mean(0)
    noise = torch.randn(()) + float(np.random.rand())  # noqa: NPY002
    return net.layer(x + net.mean) * (net.calls + len(net.seen) + noise)


@pytest.mark.parametrize("loss", ["cross_entropy", "bce_one_hot"])
@pytest.mark.parametrize("outputs", [3, 5])
@pytest.mark.parametrize("change", [plain, drawn_and_counted, lambda net, x: net.layer(x) * torch.nan])
def test_a_trial_leaves_no_trace(change: Callable[[Users, Tensor], Tensor], outputs: int, loss: str) -> None:
    model = FlatModel(Users(change, outputs))
    model.buffers.fill_(2.0)
    before, state = model.vector.clone(), torch.get_rng_state()
    try_out(model, trial(loss))
    assert torch.equal(model.vector, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert Users.sizes == [1, 5, 2, 7] * 2
    assert model.module.seen == []
    assert (model.module.calls, model.module.training) == (0, True)
    assert model.module.mean.tolist() == [2.0] * 4


def test_known_code_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FlatModel(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3)))
    before = model.vector.clone()
    try_out(model, Trial("mine", (1, 2, 2), 3, "cross_entropy", (2,), ()))
    assert torch.equal(model.vector, before)
    assert model.module.get_buffer("2.num_batches_tracked").item() == 0
    problem = "fails in a training step on a batch of 1 of 1 x 2 x 2: ValueError: Expected more than 1 value"
    with pytest.raises(ConfigError, match=f'"mine" {problem}'):
        try_out(model, Trial("mine", (1, 2, 2), 3, "cross_entropy", (1, 2), ()))


def fails_in_evaluation(net: Users, x: Tensor) -> Tensor:
    return net.layer(x if net.training else x[:, :3])


def writes(net: Users, x: Tensor) -> Tensor:
    net.layer.weight.data.mul_(0.5)
    return net.layer(x)


def writes_in_evaluation(net: Users, x: Tensor) -> Tensor:
    return plain(net, x) if net.training else writes(net, x)


def binds(net: Users, x: Tensor) -> Tensor:
    net.layer.weight = nn.Parameter(net.layer.weight.detach().clone())
    return net.layer(x)


def grows(net: Users, x: Tensor) -> Tensor:
    net.mean = torch.zeros(5)
    return net.layer(x)


def counts_in_its_class(net: Users, x: Tensor) -> Tensor:
    return net.layer(x) * len(net.sizes)


def draws_in_evaluation(net: Users, x: Tensor) -> Tensor:
    return net.layer(x) * (1.0 if net.training else float(np.random.default_rng().random()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda net, x: net.layer(x)[:, :2],
            r"gives torch.float32 outputs of shape \(1, 2\) for a batch of 1",
        ),
        (
            lambda net, x: net.layer(x).squeeze(),
            r"outputs of shape \(3,\) for a batch of 1; .* \(1, m\), m at",
        ),
        (lambda net, x: net.layer(x)[:1], r"outputs of shape \(1, 3\) for a batch of 5"),
        (lambda net, x: net.layer(x).long(), r"gives torch.int64 outputs of shape \(1, 3\)"),
        (lambda net, x: (net.layer(x),), "gives a tuple for a batch of 1"),
        (lambda net, x: net.layer(x).detach(), "fails in a training step on a batch of 1 .*: RuntimeError: "),
        (lambda net, x: sys.exit(3), r"SystemExit: 3 \(test_trial.py, line"),
        (fails_in_evaluation, "fails in an evaluation on a batch of 2 .* batches of 2 and 7 samples"),
        (writes, "changes its parameter layer.weight in its forward pass"),
        (writes_in_evaluation, "changes its parameter layer.weight in its forward pass"),
        (binds, "changes its parameter layer.weight in its forward pass"),
        (grows, r"the buffer mean of the model became \(5,\)"),
        (counts_in_its_class, "gives another result for the same weights, samples and random numbers"),
        (draws_in_evaluation, "gives another result for the same weights, samples and random numbers"),
    ],
)
def test_what_cannot_be_used_is_refused(change: Callable[[Users, Tensor], object], message: str) -> None:
    with pytest.raises(ConfigError, match=rf'\[model\] name: "m:make" .*{message}') as refused:
        try_out(FlatModel(Users(change)), trial())
    assert "\n" not in str(refused.value)


def test_long_messages_are_shortened() -> None:
    def fails(net: Users, x: Tensor) -> Tensor:
        raise KeyError("a long\nstory " * 100)

    with pytest.raises(ConfigError) as refused:
        try_out(FlatModel(Users(fails)), trial())
    assert len(str(refused.value)) < 500


def test_sparse_gradients_are_refused() -> None:
    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(2, 3, sparse=True)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.table((x > 0.5).flatten(1).long()).sum(1)
            return found

    with pytest.raises(
        ConfigError, match=r'"m:make" gives a sparse gradient of table.weight; allowed: dense'
    ):
        try_out(FlatModel(Looking()), trial())
