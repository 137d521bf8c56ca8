"""Gradients of pruned parameters, sent when a mask is to change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mpi4py import MPI

from fedmpi.config.schema import PruningConfig
from fedmpi.federation.exchange import Roster
from fedmpi.federation.importance_pairs import ImportanceForm
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.federation.messages import Action, RoundPlan
from fedmpi.federation.pruned_gradients import PrunedGradients
from fedmpi.learning.flat import FlatModel
from fedmpi.mpi.collectives import Ranks
from fedmpi.pruning import Mask, Needs, Setup
from fedmpi.pruning.fedtiny import fedtiny
from fedmpi.pruning.prunefl import METHOD as PRUNEFL

PRUNED = [1, 4, 5]


def gradients(method: Any = PRUNEFL, **keys: Any) -> PrunedGradients:
    """A model of six prunable parameters and two others, of which three are pruned."""
    ranks = Ranks.of(MPI.COMM_SELF)
    masked = MaskedModel(ranks, FlatModel(torch.nn.Linear(3, 2)))
    masked.use(Mask.of(~np.isin(np.arange(8), PRUNED)), 0)
    config = PruningConfig(importance="full" if method.signed_gradient else "received", **keys)
    return PrunedGradients(ranks, masked, ImportanceForm(method, Setup(config, 10, masked.flat.layers)))


def plan_of(needs: Needs = Needs.IMPORTANCE) -> RoundPlan:
    return RoundPlan(3, Action.NONE, 2, 0, 0.1, 0.0, np.array([0, 4, 6]), needs)


def roster_of(accepted: list[int]) -> Roster:
    ids, ones = np.array([0, 4, 6]), np.ones(3, np.int64)
    return Roster(ids, np.isin(ids, accepted), ones, ones, 1.0, [ids], ones == 1)


def vector(**values: float) -> torch.Tensor:
    found = torch.full((8,), 100.0)
    for name, value in values.items():
        found[int(name[1:])] = value
    return found


def test_the_largest_squares_of_accepted_clients_are_summed_times_samples() -> None:
    sent = gradients()
    sent.begin(plan_of())
    assert sent.gathers
    sent.add(0, vector(g1=1, g4=-3, g5=2), samples=2)
    sent.add(4, vector(g1=9, g4=9, g5=9), samples=5)
    sent.add(6, vector(g1=-4, g4=0.5, g5=1), samples=10)
    total = sent.gather(roster_of([0, 6]))
    assert total.values.tolist() == [0, 160, 0, 0, 18, 18, 0, 0]
    assert total.energy == 5 * 100.0**2 * (2 + 10)
    assert total.left_out == 0


def test_nothing_is_made_of_a_round_in_which_it_is_not_asked_for() -> None:
    sent = gradients()
    sent.begin(plan_of())
    sent.add(0, vector(g1=1, g4=1, g5=1), samples=1)
    sent.begin(plan_of(Needs.NOTHING))
    assert not sent.gathers
    sent.add(0, vector(g1=1, g4=1, g5=1), samples=1)
    assert not sent.gather(roster_of([0])).values.any()


def test_a_client_without_finite_squares_is_left_out() -> None:
    sent = gradients()
    sent.begin(plan_of())
    sent.add(0, vector(g1=1e30, g4=1, g5=1), samples=1)
    sent.add(4, vector(g1=2, g4=1, g5=0), samples=1)
    sent.add(6, vector(g0=1e30, g1=2, g4=1, g5=0), samples=1)
    total = sent.gather(roster_of([0, 4, 6]))
    assert total.values.tolist() == [0, 4, 0, 0, 1, 0, 0, 0]
    assert total.left_out == 2


def test_with_a_sign_they_are_gradients_times_samples() -> None:
    sent = gradients(fedtiny(alpha=1.0, last_round=3, gradients="topk"))
    sent.begin(plan_of(Needs.IMPORTANCE | Needs.WEIGHTS))
    assert sent.gathers is False  # the last round changes nothing
    sent.add(0, vector(g1=1), samples=2)
    nothing = sent.gather(roster_of([0]))
    assert (nothing.values.tolist(), nothing.left_out, nothing.energy) == ([0.0] * 8, 0, 0.0)
    sent = gradients(fedtiny(alpha=1.0, last_round=6, gradients="topk"))
    sent.begin(plan_of(Needs.IMPORTANCE | Needs.WEIGHTS))
    sent.add(0, vector(g1=1, g4=-3, g5=2), samples=2)
    sent.add(6, vector(g1=-4, g4=1, g5=1), samples=10)
    assert sent.gather(roster_of([0, 6])).values.tolist() == [0, -40, 0, 0, -6, 0, 0, 0]


def test_nothing_goes_into_a_checkpoint() -> None:
    sent = gradients()
    assert sent.client_state(0) == {}
    sent.take_back(np.array([0]))
    with pytest.raises(ValueError, match="client 4: the checkpoint has importance"):
        sent.restore_client(4, np.zeros(8, np.float32))
