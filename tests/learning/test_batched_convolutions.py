"""Convolutional models in batches: the bits of every client are those that it gets alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from batches import Case, cases
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fedmpi.learning.batched import BatchTrainer
from fedmpi.learning.batched_models import why_not
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models.local_response import LocalResponseNorm
from fedmpi.learning.models.memory_format import ChannelsLast

Drawn = tuple[Case, list[list[int]], bool]


@st.composite
def convolutions(draw: st.DrawFn, channels: int) -> nn.Module:
    groups = draw(st.sampled_from([each for each in (1, 1, 2, 3, channels) if channels % each == 0]))
    return nn.Conv2d(
        channels,
        groups * draw(st.sampled_from([1, 2, 3, 4, 8, 16])),
        draw(st.sampled_from([1, 2, 3, 5, (1, 3), (4, 4)])),
        stride=draw(st.sampled_from([1, 1, 2, (2, 1)])),
        padding=draw(st.sampled_from([0, 1, 2, (0, 1)])),
        dilation=draw(st.sampled_from([1, 1, 2])),
        groups=groups,
        bias=draw(st.booleans()),
    )


def pools() -> st.SearchStrategy[nn.Module]:
    ceil = st.booleans()
    largest = st.builds(nn.MaxPool2d, st.sampled_from([2, (1, 2)]), ceil_mode=ceil)
    overlapping = st.builds(
        nn.MaxPool2d, st.just(3), st.just(2), st.just(1), st.sampled_from([1, 2]), ceil_mode=ceil
    )
    mean = st.builds(nn.AvgPool2d, st.sampled_from([2, 3]), st.sampled_from([None, 1]), ceil_mode=ceil)
    padded = st.builds(
        nn.AvgPool2d, st.just(3), st.just(2), st.just(1), ceil_mode=ceil, count_include_pad=st.booleans()
    )
    return st.one_of(largest, overlapping, mean, padded)


@st.composite
def convolutional(draw: st.DrawFn) -> Drawn:
    """Clients of a model of one to three blocks of a convolution, pooling and ReLU in any order, and linear layers."""
    shape = (draw(st.sampled_from([1, 2, 3, 16])), draw(st.integers(3, 9)), draw(st.integers(3, 9)))
    layers: list[nn.Module] = [ChannelsLast()] if draw(st.booleans()) else []
    x = torch.zeros(1, *shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(draw(st.integers(1, 3))):
            layers.append(draw(convolutions(x.shape[1])))
            layers += draw(
                st.permutations(draw(st.lists(st.one_of(pools(), st.builds(nn.ReLU)), max_size=2)))
            )
            try:
                x = nn.Sequential(*layers)(torch.zeros(1, *shape))
            except RuntimeError:  # nothing is left of the image
                assume(False)
        features, classes = x.numel(), draw(st.sampled_from([2, 3, 10]))
        width = draw(st.sampled_from([0, 5, 16]))
        assume(features > 1)
        layers.append(nn.Flatten())
        layers += [nn.Linear(features, width), nn.ReLU()] if width else []
        layers.append(nn.Linear(width or features, classes))
    return draw(cases(FlatModel(nn.Sequential(*layers)), shape, classes, (1, 2, 3, 5, 11)))


@settings(max_examples=60, print_blob=True)
@given(convolutional())
def test_bits_do_not_depend_on_who_is_in_the_batch(drawn: Drawn) -> None:
    case, batches, shared = drawn
    assert why_not(case.model) is None
    trainer = BatchTrainer(case.model, case.training.loss)
    for clients in batches:
        case.compare(trainer, clients, shared)


@st.composite
def normalised(draw: st.DrawFn) -> Drawn:
    """Clients of a model that normalises responses over neighbouring channels."""
    channels, side = draw(st.sampled_from([3, 8])), draw(st.integers(3, 6))
    norm = LocalResponseNorm(channels, depth_radius=1, bias=1.0, alpha=0.5, beta=0.75)
    layers: list[nn.Module] = [ChannelsLast()] if draw(st.booleans()) else []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers += [nn.Conv2d(2, channels, 3, padding=1), norm, nn.Flatten()]
        layers.append(nn.Linear(channels * side * side, 3))
    return draw(cases(FlatModel(nn.Sequential(*layers)), (2, side, side), 3, (1, 2, 5, 11)))


@settings(max_examples=20, print_blob=True)
@given(normalised())
def test_bits_of_normalised_responses_do_not_depend_on_who_is_in_the_batch(drawn: Drawn) -> None:
    case, batches, shared = drawn
    assert why_not(case.model) is None
    trainer = BatchTrainer(case.model, case.training.loss)
    for clients in batches:
        case.compare(trainer, clients, shared)


class Operands(TorchDispatchMode):
    """Shape, strides and place in the cache line of all that matrix products and convolutions are given."""

    NAMES = ("mm", "addmm", "convolution", "convolution_backward")

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.NAMES:
            self.found[f"{name} {[*map(seen, args)]}"] += 1
        return func(*args, **kwargs or {})


def seen(argument: Any) -> Any:
    """What a kernel may look at."""
    if not isinstance(argument, Tensor):
        return argument
    return tuple(argument.shape), argument.stride(), argument.data_ptr() % 64


@settings(max_examples=25)
@given(convolutional())
def test_kernels_are_given_what_they_get_alone(drawn: Drawn) -> None:
    case, batches, shared = drawn
    trainer = BatchTrainer(case.model, case.training.loss)
    for clients in batches:
        with Operands() as alone:
            for client in clients:
                case.alone(client)
        with Operands() as together:
            case.batch(trainer, clients, shared)
        assert together.found == alone.found
        assert sum(alone.found.values())
