"""The estimated cost of a round with the probe's k."""

import numpy as np
import pytest

from fedmpi.k_control.probe import estimated_cost


def test_time_is_scaled_by_how_much_less_the_probe_achieved() -> None:
    assert estimated_cost(3.0, loss_prev=2.0, loss=1.0, loss_probe=1.5) == 6.0
    assert estimated_cost(3.0, loss_prev=2.0, loss=1.5, loss_probe=1.0) == 1.5


@pytest.mark.parametrize(
    "losses",
    [
        (1.0, 1.0, 0.5),
        (1.0, 1.1, 0.5),
        (1.0, 0.5, 1.0),
        (1.0, 0.5, 1.2),
        (np.nan, 0.5, 0.5),
        (1.0, -np.inf, 0.5),
    ],
)
def test_no_estimate_without_two_decreases(losses: tuple[float, float, float]) -> None:
    assert estimated_cost(3.0, *losses) is None
