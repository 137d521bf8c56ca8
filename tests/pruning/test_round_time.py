"""The time of a round as a function of the mask."""

import numpy as np
import pytest

from fedmpi.pruning.round_time import RoundTime, slowest_client


def test_published_constants_of_conv2() -> None:
    """Five local steps of the unpruned Conv2 on a Raspberry Pi 4: 5 x 2.2486 s and 6.6 M x 5.56e-6 s."""
    compute = np.array([0.0, 7.098850e-6, 1.927325e-7, 1.782308e-7])
    sizes = np.array([800, 51_200, 6_422_528, 126_976])
    time = slowest_client(
        5, np.array([1.2492789765]), compute[None], np.zeros(1), np.array([5.561621e-6]), sizes
    )
    assert time.constant_s == pytest.approx(6.2463948825)
    assert time.seconds_per_parameter == pytest.approx(5 * compute + 5.561621e-6)
    communication_s = 5.561621e-6 * sizes.sum()
    assert time.seconds(sizes) == pytest.approx(5 * (1.2492789765 + compute @ sizes) + communication_s)


def test_the_slowest_client_depends_on_the_mask() -> None:
    arguments = (
        np.array([2.0, 1.0]),
        np.array([1.0, 5.0]),
        np.array([[1.0], [1.0]]),
        np.zeros(2),
        np.array([0.5, 0.0]),
    )
    pruned = slowest_client(*arguments, [0])
    assert (pruned.constant_s, pruned.seconds_per_parameter.tolist()) == (5.0, [1.0])
    full = slowest_client(*arguments, [10])
    assert (full.constant_s, full.seconds_per_parameter.tolist()) == (2.0, [2.5])


def test_the_round_as_it_is_takes_what_its_steps_took() -> None:
    """Of two clients the second is slower by far; with dense kernels training takes 1 and 6 s."""
    exchange_s = np.array([0.5, 0.25]), np.array([0.5, 0.2])
    steps_s = np.array([1.0, 9.0]), np.array([[1.0], [1.0]])
    time = slowest_client(2, *steps_s, *exchange_s, [10], compute_s=[1.0, 6.0])
    assert time.present_s == 6.0 + 0.25 + 2.0
    assert time.seconds([10]) == 2 * 19.0 + 0.25 + 2.0
    assert np.isnan(slowest_client(2, *steps_s, *exchange_s, [10]).present_s)


def test_equals_go_to_the_first() -> None:
    time = slowest_client(1, np.array([1.0, 0.0]), np.array([[0.0], [1.0]]), np.zeros(2), np.zeros(2), [1])
    assert time.constant_s == 1.0


@pytest.mark.parametrize(
    ("constant", "per_parameter"), [(np.nan, 1.0), (-1.0, 1.0), (1.0, np.nan), (1.0, -2.0)]
)
def test_unknown_times_of_any_client_are_refused(constant: float, per_parameter: float) -> None:
    times = np.array([1.0, constant]), np.array([[1.0, 1.0], [1.0, per_parameter]])
    with pytest.raises(ValueError, match="negative or not finite"):
        slowest_client(1, *times, np.zeros(2), np.zeros(2), [1, 1])


def test_no_clients_are_refused() -> None:
    with pytest.raises(ValueError, match="without clients"):
        slowest_client(1, np.zeros(0), np.zeros((0, 1)), np.zeros(0), np.zeros(0), [1])


def test_time_is_linear_in_the_mask() -> None:
    assert RoundTime(1.0, np.array([2.0, 3.0])).seconds([4, 5]) == 24.0
