"""Models that are too large are refused before memory is taken for them."""

import numpy as np
import pytest
import torch

from fedmpi.config import ConfigError
from fedmpi.config.schema import ModelConfig
from fedmpi.learning.models import MODELS, build
from fedmpi.learning.models import size as model_size


@pytest.mark.parametrize(
    ("config", "shape", "count"),
    [
        (ModelConfig(hidden=(1_000_000_000,)), (1, 8, 8), str(64 * 10**9 + 10**9 + 10**10 + 10)),
        (ModelConfig(hidden=(2**31 - 1,) * 2), (1, 8, 8), r"more than 10\^18"),
        (ModelConfig("conv2"), (3, 4096, 4096), "137439"),
        (ModelConfig("logistic"), (3, 10**5, 10**5), "3000000"),
    ],
)
def test_more_parameters_than_indices_are_refused(
    config: ModelConfig, shape: tuple[int, ...], count: str
) -> None:
    with pytest.raises(
        ConfigError, match=rf"^model: {config.name} has D = {count}.*; allowed: at most 2147483647"
    ):
        build(config, shape, 10, seed=0)


def test_more_than_the_free_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 64 * 100 + 100 + 100 * 10 + 10
    monkeypatch.setattr(model_size, "free_bytes", lambda: 8 * count - 1)
    with pytest.raises(ConfigError, match=f"mlp has D = {count} parameters, which take .*free here"):
        build(ModelConfig(hidden=(100,)), (1, 8, 8), 10, seed=0)
    for free in (8 * count, None):
        monkeypatch.setattr(model_size, "free_bytes", lambda free=free: free)
        assert build(ModelConfig(hidden=(100,)), (1, 8, 8), 10, seed=0)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_counting_changes_no_weight_and_no_random_number(name: str) -> None:
    shape, config = (3, 32, 32), ModelConfig(name)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    model_size.refuse_oversized(name, lambda: MODELS[name](config, shape, 10))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.device.type == "cpu" for parameter in build(config, shape, 10, seed=0).parameters())


def test_free_memory_is_that_of_the_host_or_of_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    free = model_size.free_bytes()
    if free is None:
        pytest.skip("this system does not say")
    monkeypatch.setattr(model_size.resource, "getrlimit", lambda _: (10**15, 10**15))
    assert model_size.free_bytes() == pytest.approx(free, rel=0.5)
    monkeypatch.setattr(model_size.resource, "getrlimit", lambda _: (1, 1))
    assert model_size.free_bytes() == 0


def test_numpys_integers_are_as_good_as_pythons() -> None:
    shape = tuple(int(side) for side in np.array([1, 8, 8]))
    assert build(ModelConfig(), shape, int(np.int64(10)), seed=0)
