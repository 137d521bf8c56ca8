"""Training in batches: the bits of every client are those that it gets alone."""

from itertools import pairwise

import pytest
import torch
from batches import Case, cases
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.batched import BatchTrainer
from fedmpi.learning.batched_models import has_convolutions, why_not
from fedmpi.learning.batched_trial import differing_samples
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models.memory_format import ChannelsLast
from fedmpi.learning.summed_linear import LARGE


def make_model(*sizes: int, bias: bool = True) -> FlatModel:
    layers: list[nn.Module] = [nn.Flatten()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for number, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            layers += [nn.ReLU()] if number else []
            layers.append(nn.Linear(fan_in, fan_out, bias=bias))
    return FlatModel(nn.Sequential(*layers))


@st.composite
def linear_cases(draw: st.DrawFn) -> tuple[Case, list[list[int]], bool]:
    width = st.sampled_from([2, 3, 5, 8, 16, 17, 33, 62, 64, 100])
    sizes = [draw(st.sampled_from([2, 3, 8, 33, 64, 784])), *draw(st.lists(width, max_size=2)), draw(width)]
    return draw(
        cases(
            make_model(*sizes, bias=draw(st.booleans())),
            (1, 1, sizes[0]),
            sizes[-1],
            (1, 2, 3, 7, 10, 21, 33),
        )
    )


@settings(max_examples=60)
@given(linear_cases())
def test_bits_do_not_depend_on_who_is_in_the_batch(drawn: tuple[Case, list[list[int]], bool]) -> None:
    case, batches, shared = drawn
    assert why_not(case.model) is None
    trainer = BatchTrainer(case.model, case.training.loss)
    for clients in batches:
        case.compare(trainer, clients, shared)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.5)), "layer Dropout"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3)), "float buffers"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(4, 3)),
            "float buffers",
        ),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), nn.Flatten(), nn.Linear(4, 3)), "layer Conv2d"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten()), "layer Conv2d"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4, 3)), "layer Tanh"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), "does not end with linear layers"),
        (nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 2, 3), nn.Flatten()), "before the first with weights"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.MaxPool2d(2)), "after the samples are flat"),
        (nn.Sequential(nn.Flatten(2), nn.Linear(4, 3)), "layer Flatten"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), ChannelsLast(), nn.Flatten(), nn.Linear(4, 3)), "order in memory"),
        (nn.Sequential(ChannelsLast(), nn.Flatten(), nn.Linear(4, 3)), "order in memory"),
        (nn.Sequential(nn.Linear(4, 3)), "before the samples are flat"),
        (nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(4, 3)), "before the first with weights"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.Linear(1, 3)), "one input or one output"),
        (nn.Sequential(nn.Flatten(), nn.Linear(LARGE // 4, 4)), f"{LARGE} weights"),
        (nn.Sequential(nn.Flatten(), NonDynamicallyQuantizableLinear(4, 3), nn.Linear(3, 2)), "layer NonDyn"),
        (nn.Linear(4, 3), "the model is Linear"),
    ],
)
def test_other_models_are_trained_one_by_one(module: nn.Module, reason: str) -> None:
    found = why_not(FlatModel(module))
    assert found is not None
    assert reason in found


def test_frozen_parameters_and_hooks_are_trained_one_by_one() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    module[1].bias.requires_grad_(False)
    assert why_not(FlatModel(module)) == "parameters are frozen"
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    module[1].register_forward_hook(lambda *unused: None)
    assert why_not(FlatModel(module)) == "code of others runs in the model"


def test_a_trial_finds_other_bits() -> None:
    model = make_model(6, 4, 3)
    before = model.vector.clone()
    training = TrainingConfig(local_epochs=2, batch_size=4)
    trainer = BatchTrainer(model, "cross_entropy")
    assert differing_samples(trainer, training, (1, 2, 3), 3, [9, 4, 11]) is None
    of_many = trainer._loss

    def off_by_a_bit(logits: Tensor, labels: Tensor, gradient: Tensor) -> list[float]:
        losses = of_many(logits, labels, gradient)
        if labels.shape[1] == 3:
            gradient[0, 0, 0] *= 1 + 2**-23
        return losses

    trainer._loss = off_by_a_bit
    assert differing_samples(trainer, training, (1, 2, 3), 3, [8, 4, 11]) == 7  # a batch of 4, and one of 3
    assert torch.equal(model.vector, before)


def test_models_with_convolutions_are_known() -> None:
    convolutional = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), nn.Flatten(), nn.Linear(8, 2))
    assert has_convolutions(FlatModel(convolutional))
    assert not has_convolutions(FlatModel(nn.Sequential(nn.Flatten(), nn.Linear(8, 2))))
