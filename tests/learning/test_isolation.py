"""Training and evaluation of any code depend on what they are given alone."""

import copy
import io
import random
from collections import Counter, deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.evaluation import evaluate_blocks, sample_loss
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.isolation import evaluated_alone, training_alone
from fedmpi.learning.training import LocalTask, train, train_batches


class Noisy(nn.Module):
    """Draws from every global generator in both modes, and keeps all kinds of state."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(4))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        self.calls += 1
        self.mean = 0.5 * self.mean + x.mean(0)
        noise = torch.randn_like(x) + random.random() + float(np.random.rand())  # noqa: NPY002
        x = F.dropout(x + noise - self.mean, training=True)
        return self.layer(x) * (1.0 + self.steps + 0.1 * self.calls)


DRAW = torch.Generator().manual_seed(1)
X, Y = torch.rand(20, 4, generator=DRAW), torch.randint(0, 3, (20,), generator=DRAW)


@pytest.fixture
def model() -> FlatModel:
    return FlatModel(Noisy())


def disturbed(model: FlatModel) -> None:
    """What another client's training leaves behind."""
    model.module(X)
    torch.rand(3)
    random.random()
    np.random.rand(2)  # noqa: NPY002


def generators() -> list[object]:
    return [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]  # noqa: NPY002


@pytest.mark.parametrize("by_batches", [False, True])
def test_training_is_repeated_bit_for_bit(model: FlatModel, by_batches: bool) -> None:
    start = model.vector.clone()
    training = TrainingConfig(local_steps=3, batch_size=5, momentum=0.5)

    def trained(seed: int) -> tuple[float, list[float]]:
        if by_batches:
            model.put_back()
            model.load(start)
            loss = train_batches(model, [(X[:5], Y[:5]), (X[5:], Y[5:])], training, 0.1, torch_seed=seed)
        else:
            rng = np.random.default_rng(0)
            loss = train(model, start, (X, Y), LocalTask(training, 0.1, rng, torch_seed=seed)).loss
        return loss, model.vector.tolist()

    first = trained(2**63 - 2)
    assert first[1][-4:] != start[-4:].tolist()
    disturbed(model)
    before = generators()
    assert trained(2**63 - 2) == first
    assert generators() == before
    assert trained(2**63 - 2 - 2**40) != first
    assert trained(2**63 - 3) != first


def test_evaluation_of_a_block_depends_on_no_other(model: FlatModel) -> None:
    blocks = [(X[:8], Y[:8]), (X[8:16], Y[8:16]), (X[16:], Y[16:])]
    before = model.vector.clone()
    together = evaluate_blocks(model, blocks, "cross_entropy", [5, 6, 7])
    disturbed(model)
    model.put_back()
    assert torch.equal(model.vector, before)
    state = generators()
    alone = [evaluate_blocks(model, [block], "cross_entropy", [5 + at]) for at, block in enumerate(blocks)]
    assert np.array_equal(np.concatenate(alone), together)
    assert generators() == state
    assert torch.equal(model.vector, before)
    assert not np.array_equal(evaluate_blocks(model, blocks[:1], "cross_entropy", [6])[0], together[0])
    assert sample_loss(model, X[:1], Y[:1], "cross_entropy", 3) == sample_loss(
        model, X[:1], Y[:1], "cross_entropy", 3
    )


def test_evaluation_leaves_the_module_as_built(model: FlatModel) -> None:
    model.buffers.fill_(2.0)
    with evaluated_alone(model, 0):
        assert not model.module.training
        model.module(X)
    assert model.module.training
    assert (model.module.calls, model.module.steps.item()) == (0, 0)
    assert model.module.mean.tolist() == [2.0] * 4


class Counting(nn.Module):
    """It changes a float buffer in place, in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add_(len(x))
        return self.layer(x) * self.seen.sum()


def test_evaluation_puts_float_buffers_back_that_were_changed_in_place() -> None:
    counting = FlatModel(Counting())
    counting.buffers.fill_(3.0)
    with evaluated_alone(counting, 0):
        counting.module(X)
        assert counting.buffers.tolist() == [23.0] * 2
    assert counting.buffers.tolist() == counting.module.seen.tolist() == [3.0] * 2


def test_code_that_may_draw_needs_a_seed(model: FlatModel) -> None:
    with pytest.raises(ValueError, match="needs a torch_seed"), training_alone(model, None):
        pass
    with pytest.raises(ValueError, match="in evaluation: it needs a seed"):
        evaluate_blocks(model, [(X, Y), (X, Y)], "cross_entropy", [1])
    known = FlatModel(nn.Sequential(nn.Linear(4, 3), nn.Dropout()))
    with pytest.raises(ValueError, match="needs a torch_seed"), training_alone(known, None):
        pass
    assert len(evaluate_blocks(known, [(X, Y)], "cross_entropy")) == 1


class Counted:
    """An object of the user's own."""

    def __init__(self) -> None:
        self.calls = 0


class Hoarder(nn.Module):
    """Keeps state in everything that is neither a parameter, a buffer nor a number bound to an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.plain = torch.zeros(2)
        self.some = [0, torch.zeros(1), {"deep": [0]}]
        self.counts: Counter[str] = Counter()
        self.last = deque([0.0], maxlen=3)
        self.seen: set[int] = set()
        self.array = np.zeros((2, 2))[:, 1]
        self.objects = np.array([[0], None], dtype=object)
        self.raw = bytearray(b"a")
        self.own = Counted()
        self.space = SimpleNamespace(calls=0)
        self.hidden = (nn.BatchNorm1d(4),)
        self.draw = torch.Generator().manual_seed(1)
        self.numpy = np.random.default_rng(1)
        self.older = np.random.RandomState(1)
        self.python = random.Random(1)
        calls = 0

        def double(_: nn.Module, outputs: torch.Tensor) -> None:
            nonlocal calls
            calls += 1
            self.some[0] += calls

        self.layer.register_forward_pre_hook(double)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.plain += 1
        self.some[1] += 1
        self.some[2]["deep"].append(len(self.some[2]["deep"]))
        self.counts["calls"] += 1
        self.last.append(float(x.mean()))
        self.seen.add(len(self.seen))
        self.array += 1
        self.objects[0].append(1)
        self.raw += b"b"
        self.own.calls += 1
        self.space.calls += 1
        torch.rand(1, generator=self.draw)
        self.numpy.random(), self.older.rand(), self.python.random()
        if len(self.some) < 9:
            self.layer.register_forward_hook(lambda *_: self.some.append(1))
        return self.layer(self.hidden[0](x))

    def state(self) -> list[object]:
        """All of it, drawn from the generators too."""
        return [
            self.plain.tolist(),
            [self.some[0], self.some[1].tolist(), self.some[2], len(self.some)],
            dict(self.counts),
            list(self.last),
            set(self.seen),
            self.array.tolist(),
            [list(self.objects[0]), self.objects[1]],
            bytes(self.raw),
            self.own.calls,
            self.space.calls,
            self.hidden[0].running_mean.tolist(),
            len(self.layer._forward_hooks),
            torch.rand(2, generator=self.draw).tolist(),
            self.numpy.random(2).tolist(),
            self.older.rand(2).tolist(),
            self.python.random(),
        ]


def test_what_a_module_holds_in_any_object_is_put_back() -> None:
    model = FlatModel(Hoarder())
    module = model.module
    objects = [module.some, module.some[2], module.array, module.own, module.numpy]
    first = copy.deepcopy(module.state())
    model.put_back()
    for _ in range(2):
        model.module(X)
        changed = module.state()
        assert not any(one == other for one, other in zip(changed, first, strict=True))
        model.put_back()
        assert module.state() == first
        model.put_back()
    now = [module.some, module.some[2], module.array, module.own, module.numpy]
    assert all(one is other for one, other in zip(objects, now, strict=True))


def test_what_others_hold_is_left_alone() -> None:
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.lines = io.StringIO()
            self.weights = [self.layer.weight]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.lines.write("a line\n")
            return self.layer(x)

    model = FlatModel(Watched())
    model.module(X)
    with torch.no_grad():
        model.vector += 1
    trained = model.vector.clone()
    model.put_back()
    assert model.module.lines.getvalue() == "a line\n"
    assert torch.equal(model.vector, trained)
