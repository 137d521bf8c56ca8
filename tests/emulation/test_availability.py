"""Which clients can be asked: by probability, and what models of one's own may give."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from fedmpi.config.emulation_schema import AvailabilityConfig
from fedmpi.config.errors import ConfigError
from fedmpi.emulation.availability import (
    ALWAYS,
    PROBABILITY,
    AvailabilityModel,
    _somebody,
    make_availability,
)


def test_always_is_everybody_and_nobody_leaves():
    there = make_availability(ALWAYS, AvailabilityConfig(), 5, 1)
    assert there.clients(3, 10.0).tolist() == [0, 1, 2, 3, 4]
    assert there.leaves_s(3, 10.0, np.array([1, 4])).tolist() == [inf, inf]
    assert there.next_s(3, 10.0) is None


def test_probability_draws_anew_for_every_round_and_seed():
    section = AvailabilityConfig("probability", probability=0.3)
    there = make_availability(PROBABILITY, section, 1000, 7)
    rounds = [there.clients(index, 0.0) for index in range(20)]
    assert all(np.array_equal(found, there.clients(index, 5.0)) for index, found in enumerate(rounds))
    assert len({found.tobytes() for found in rounds}) == 20
    assert abs(np.mean([len(found) for found in rounds]) - 300) < 15  # 4 standard errors are 13
    other = make_availability(PROBABILITY, section, 1000, 8)
    assert not np.array_equal(other.clients(0, 0.0), rounds[0])


def test_probability_never_gives_nobody():
    there = make_availability(PROBABILITY, AvailabilityConfig("probability", probability=0.01), 2, 1)
    assert all(len(there.clients(index, 0.0)) for index in range(200))


def test_somebody_is_drawn_at_once_where_hardly_anybody_ever_is():
    section = AvailabilityConfig("probability", probability=1e-9)
    there = make_availability(PROBABILITY, section, 5, 1)
    counts = np.zeros(5)
    for round_index in range(300):
        clients = there.clients(round_index, 0.0)
        assert len(clients) == 1
        counts[clients] += 1
    assert counts.min() > 30  # of 60: all are as likely


def test_who_is_drawn_outright_is_as_if_draws_were_repeated():
    draw, probability = np.random.default_rng(1), 0.4
    found = np.array([_somebody(draw, 3, probability) for _ in range(20_000)])
    assert found.any(axis=1).all()
    somebody = 1.0 - (1.0 - probability) ** 3
    np.testing.assert_allclose(found.mean(axis=0), probability / somebody, atol=0.02)
    both = (found[:, 0] & found[:, 2]).mean()
    assert both == pytest.approx(probability**2 / somebody, abs=0.02)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (AvailabilityConfig("probability"), "probability: is not set"),
        (AvailabilityConfig("intervals"), "path: found"),
        (AvailabilityConfig("always", probability=0.5), 'probability: found 0.5 with model "always"'),
        (AvailabilityConfig("probability", probability=0.5, path="a.csv"), "path: found"),
        (AvailabilityConfig("always", period_s=3.0), "period_s: found 3.0"),
        (AvailabilityConfig("mine:model", path="a.csv"), 'with model "mine:model"'),
    ],
)
def test_keys_must_go_with_the_model(section, message):
    with pytest.raises(ConfigError) as raised:
        make_availability(ALWAYS, section, 3, 0)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_model_of_ones_own_is_checked():
    def model(leaves):
        return AvailabilityModel(
            summary="", available=ALWAYS.available, leaves_s=lambda setup, index, start: leaves
        )

    def leaving(leaves):
        return make_availability(model(leaves), AvailabilityConfig("mine:model"), 3, 0).leaves_s(
            0, 5.0, np.array([0, 2])
        )

    assert leaving(np.array([6.0, 1.0, inf])).tolist() == [6.0, inf]  # that of client 1 does not matter
    for wrong in (4.0, np.nan):
        with pytest.raises(ValueError, match=f"gave {wrong:g} for client 2.*allowed: a moment from 5 on"):
            leaving(np.array([5.0, 5.0, wrong]))


def test_a_tiny_probability_draws_one_client_after_the_other():
    """Where nobody is there in draw after draw, the first of those who are has its conditional distribution."""
    for probability in (5e-324, 1e-9):
        there = make_availability(
            PROBABILITY, AvailabilityConfig("probability", probability=probability), 4, 1
        )
        found = [there.clients(index, 0.0).tolist() for index in range(40)]
        assert all(len(clients) == 1 for clients in found)
        assert found == [there.clients(index, 0.0).tolist() for index in range(40)]
    counts = np.bincount(np.concatenate([there.clients(index, 0.0) for index in range(400)]), minlength=4)
    assert (abs(counts - 100) < 45).all()  # 5 standard deviations are 43
