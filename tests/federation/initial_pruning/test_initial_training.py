import numpy as np
import pytest
import torch

from fedmpi.config import Config, loads
from fedmpi.federation.distribution import ServerData
from fedmpi.federation.initial_pruning.training import (
    InitialTraining,
    draw_samples,
)
from fedmpi.learning.datasets import Dataset
from fedmpi.learning.division import Division
from fedmpi.learning.flat import FlatModel

SAMPLES, CLASSES = 900, 3


def config_of(*overrides: str) -> Config:
    text = '[pruning]\nmethod = "prunefl"\n[training]\nlocal_steps = 3\nlearning_rate = 0.5\n'
    return loads(text, ["pruning.initial.where=client", "pruning.initial.client=1", *overrides])


@pytest.fixture
def data() -> ServerData:
    """Three clients of 250, 600 and 50 samples; each sample holds its number."""
    x = np.arange(SAMPLES, dtype=np.float32).reshape(-1, 1, 1, 1) / SAMPLES
    y = np.arange(SAMPLES) % CLASSES
    dataset = Dataset(x, y, None, x, y, CLASSES)
    order = np.random.default_rng(0).permutation(SAMPLES)
    return ServerData(dataset, Division.of([order[:250], order[250:850], order[850:]]))


def numbers(x: np.ndarray) -> np.ndarray:
    return np.round(x.reshape(-1) * SAMPLES).astype(int)


def test_a_client_gives_200_of_its_own_samples(data: ServerData) -> None:
    x, y = draw_samples(config_of(), data)
    chosen = numbers(x)
    assert len(set(chosen)) == 200
    assert set(chosen) <= set(data.samples[1])
    assert (y == chosen % CLASSES).all()
    again, _ = draw_samples(config_of(), data)
    np.testing.assert_array_equal(x, again)
    other, _ = draw_samples(config_of("experiment.seed=1"), data)
    assert set(numbers(other)) != set(chosen)


def test_a_small_client_gives_all(data: ServerData) -> None:
    x, _ = draw_samples(config_of("pruning.initial.client=2"), data)
    assert set(numbers(x)) == set(data.samples[2])


def test_the_server_draws_from_all_samples(data: ServerData) -> None:
    x, _ = draw_samples(config_of("pruning.initial.where=server"), data)
    chosen = set(numbers(x))
    assert len(chosen) == 200
    assert all(chosen & set(of_client) for of_client in data.samples)


def test_a_round_is_plain_sgd_on_all_batches(data: ServerData) -> None:
    """Under a mask, with the gradient of every step shown before it is made; the last batch is what is left."""
    config = config_of("pruning.initial.client=2")
    x, y = draw_samples(config, data)
    model = FlatModel(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, CLASSES)))
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    model.vector.mul_(mask)
    expected = model.vector.clone()
    reference = torch.nn.Linear(1, CLASSES)
    gradients, losses = [], []
    for at in (slice(0, 20), slice(20, 40), slice(40, 50)):
        with torch.no_grad():
            reference.weight.copy_(expected[:3].reshape(3, 1))
            reference.bias.copy_(expected[3:])
        loss = torch.nn.functional.cross_entropy(
            reference(torch.from_numpy(x[at]).reshape(-1, 1)), torch.from_numpy(y[at])
        )
        of_step = torch.autograd.grad(loss, [reference.weight, reference.bias])
        gradients.append(torch.cat([each.reshape(-1) for each in of_step]))
        losses.append(loss.item())
        expected -= 0.5 * mask * gradients[-1]
    gradients_seen = []
    training = InitialTraining(config, model, x, y)
    loss = training.round(
        1, mask, lambda layers: gradients_seen.append(torch.cat([g.reshape(-1) for g in layers]))
    )
    assert loss == pytest.approx(np.mean(losses), rel=1e-6)
    torch.testing.assert_close(torch.stack(gradients_seen), torch.stack(gradients))
    torch.testing.assert_close(model.vector, expected)
    logits = torch.nn.functional.linear(
        torch.from_numpy(x).reshape(-1, 1), expected[:3].reshape(3, 1), expected[3:]
    )
    assert training.accuracy() == np.mean(logits.argmax(1).numpy() == y)


def test_a_model_that_changes_its_input_in_place_is_given_it_as_it_was(data: ServerData) -> None:
    config = config_of("pruning.initial.client=2")
    found = []
    for inplace in (False, True):
        torch.manual_seed(3)
        layers = torch.nn.SiLU(inplace=inplace), torch.nn.Flatten(), torch.nn.Linear(1, CLASSES)
        x, y = draw_samples(config, data)
        training = InitialTraining(config, FlatModel(torch.nn.Sequential(*layers)), x, y)
        losses = [training.round(number, None, lambda layers: None) for number in range(3)]
        found.append((losses, training.accuracy(), training.accuracy()))
    assert found[0] == found[1]
