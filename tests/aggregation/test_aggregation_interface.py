"""Aggregators by their names in a configuration, and what they all state."""

import numpy as np
import pytest

from fedmpi.aggregation import BUILT_IN, Aggregator
from fedmpi.aggregation.interface import drop
from fedmpi.config import ConfigError, loads
from fedmpi.experiment.parts import resolve


def named(name: str, *overrides: str) -> Aggregator:
    return resolve(loads("", [f"federation.aggregator={name}", *overrides])).aggregator


def doubled(factor: float = 2.0) -> Aggregator:
    """A user's aggregator: the sum of the updates times a factor."""
    return Aggregator(
        summary="A sum.", combine=lambda updates, samples: np.float32(factor) * updates.sum(axis=0)
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_aggregators_state_what_they_are(name: str) -> None:
    aggregator = named(name)
    assert aggregator.summary.endswith(".")
    assert aggregator.source
    assert aggregator.is_mean == (name == "mean")
    assert aggregator.needs_updates == (name == "trimmed_mean")
    assert not aggregator.dense
    state = aggregator.init(1000)
    arrays = [value for value in state.values() if isinstance(value, np.ndarray)]
    assert all(array.shape == (1000,) for array in arrays)
    assert sum(array.nbytes for array in arrays) == 1000 * aggregator.bytes_per_parameter


def test_options_make_an_aggregator() -> None:
    assert named("fedyogi", "federation.options={dense = true, tau = 1}").dense
    aggregator = named(f"{__name__}:doubled", "federation.options.factor=3")
    assert aggregator.combine is not None
    np.testing.assert_array_equal(aggregator.combine(np.ones((2, 4), np.float32), np.ones(2, int)), [6] * 4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["federation.aggregator=fedadm"], '[federation] aggregator: found "fedadm"; did you mean fedadam?'),
        (
            ["federation.options.trim=0.1"],
            '[federation.options] trim: unknown option of "mean"; allowed: none',
        ),
        (
            ["federation.aggregator=trimmed_mean", "federation.options.trim=0.5"],
            '[federation.options]: refused by "trimmed_mean": trim is 0.5; allowed: a number from 0 to below',
        ),
        (
            ["federation.aggregator=fedadam", "federation.options.beta1=[0.9]"],
            "[federation.options] beta1: found",
        ),
        (
            ["federation.aggregator=trimmed_mean", "sparsification.method=fab", "sparsification.k=1"],
            '[federation] aggregator: found "trimmed_mean" with [sparsification] method "fab", which compares the',
        ),
        (
            ["federation.aggregator=fedadam", "pruning.method=snip", "pruning.target_density=0.5"],
            '[federation] aggregator: found "fedadam" with [pruning] method "snip", which takes the change',
        ),
        (["federation.aggregator=math:pi"], "[federation] aggregator: 'math:pi' is a float; allowed: "),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(loads("", overrides))
    assert str(caught.value).startswith(message)


def test_pruned_parameters_lose_their_state_and_numbers_stay() -> None:
    state = {"t": 7, "m": np.array([1.0, 2.0, 3.0]), "v": np.array([4.0, np.inf, 6.0])}
    drop(state, np.array([True, False, True]))
    assert state["t"] == 7
    np.testing.assert_array_equal(state["m"], [1, 0, 3])
    np.testing.assert_array_equal(state["v"], [4, 0, 6])
