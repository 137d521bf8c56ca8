"""The normalized cost model: what a round costs in units of its training."""

import pytest

from fedmpi.emulation.normalized import training_seconds, transfer_seconds


def test_both_ways_of_all_values_cost_beta_and_an_index_as_much_as_a_value():
    """k pairs up and k pairs down of D values take beta / (2 D) * (2 k + 2 k)."""
    assert 2 * transfer_seconds(10.0, 400, 400, positions_sent=False) == 10.0
    assert 2 * transfer_seconds(10.0, 400, 30, positions_sent=True) == pytest.approx(10.0 / 800 * (60 + 60))
    assert transfer_seconds(10.0, 400, 0, positions_sent=True) == 0.0


def test_a_probe_costs_one_sample_of_the_minibatch():
    assert training_seconds(20, probe=True) == 1.05
    assert training_seconds(20, probe=False) == 1.0
