"""EF21: the server's estimate is the mean of the clients', and becomes the gradient where gradients stand still."""

from __future__ import annotations

import numpy as np

from fedmpi.aggregation.means import MEAN
from fedmpi.federation.messages import Action, RoundPlan
from fedmpi.federation.server_aggregation import Answering
from fedmpi.pruning.mask import Mask
from fedmpi.sparsification import Choice, Uploads, WireCodec
from fedmpi.sparsification.ef21 import METHOD
from fedmpi.sparsification.error_feedback import take_out
from fedmpi.sparsification.wire import NO_TAIL
from fedmpi.testing import check_sparsification


def plan(k: int, round_index: int = 0) -> RoundPlan:
    return RoundPlan(round_index, Action.NONE, k, 0, 0.1, 0.0, np.arange(2))


def test_the_method_keeps_its_accounts() -> None:
    check_sparsification(METHOD)


def test_estimates_reach_gradients_that_stand_still() -> None:
    """Two clients of 1 and 3 samples, k = 1 of 3 coordinates: after 3 rounds the server knows the mean exactly."""
    gradients = np.array([[1.0, -2.0, 4.0], [8.0, 2.0, -4.0]], np.float32)
    kept, dimension = np.zeros((2, 3), np.float32), 3
    answering = Answering(METHOD, WireCodec("auto"), MEAN, dimension, is_server=True)
    for round_index in range(4):
        indices, values = [], []
        for client in range(2):
            difference = gradients[client] + kept[client]  # what is kept is the estimate, negative
            chosen = METHOD.choose(difference, 1, Choice(0, round_index, client, [slice(0, 3)]))
            indices.append(chosen)
            values.append(difference[chosen])
            take_out(kept[client], chosen, difference[chosen], np.array([True]))
        uploads = Uploads(tuple(indices), tuple(values), np.array([0.25, 0.75]), dimension)
        answer = answering.answer(
            plan(1, round_index), uploads, NO_TAIL, Choice(0, round_index, -1, []), share=1.0
        )
        assert answer.selection.indices.tolist() == [0, 1, 2]
        np.testing.assert_array_equal(answering.lost, -(0.25 * kept[0] + 0.75 * kept[1]))
        np.testing.assert_allclose(answer.selection.values, answering.lost)
        assert answer.message.size == 16 + 4 * dimension
    np.testing.assert_allclose(answer.selection.values, 0.25 * gradients[0] + 0.75 * gradients[1])


def test_clients_that_sent_nothing_count_with_zeros() -> None:
    answering = Answering(METHOD, WireCodec("auto"), MEAN, 2, is_server=True)
    sent = Uploads((np.array([1], np.int32),), (np.array([8.0], np.float32),), np.ones(1), 2)
    answer = answering.answer(plan(1), sent, NO_TAIL, Choice(0, 0, -1, []), share=0.25)
    assert answer.selection.values.tolist() == [0.0, 2.0]
    answering.set_mask(Mask.of(np.array([False, True])))
    assert answering.lost.tolist() == [2.0]
