"""The server's aggregator: its steps among some coordinates, trials that leave no trace, and its state."""

import numpy as np
import pytest

from fedmpi.aggregation import Aggregator
from fedmpi.aggregation.means import MEAN
from fedmpi.aggregation.server_optimizers import fedadam, fedavgm
from fedmpi.federation.server_aggregation import Answering, ServerAggregation
from fedmpi.pruning.mask import Mask
from fedmpi.sparsification import unidirectional
from fedmpi.sparsification.codec import WireCodec

MEANS = np.array([[0.5, -2.0, 0.25, 1.0], [1.0, 0.5, -0.5, 0.0]], np.float32)


def after_one_step(aggregator: Aggregator) -> ServerAggregation:
    aggregation = ServerAggregation(aggregator, 4, is_server=True)
    aggregation.change(MEANS[0].copy(), None)
    return aggregation


def test_the_change_is_that_of_the_aggregator() -> None:
    aggregation = after_one_step(fedavgm(learning_rate=0.5, momentum=0.5))
    change = aggregation.change(MEANS[1].copy(), None)
    np.testing.assert_array_equal(change, 0.5 * (0.5 * MEANS[0] + MEANS[1]))
    assert change.dtype == np.float32


def test_a_mean_is_its_own_change() -> None:
    aggregation = ServerAggregation(MEAN, 4, is_server=True)
    mean = MEANS[0].copy()
    assert aggregation.change(mean, None) is mean
    np.testing.assert_array_equal(aggregation.tried(mean, None), MEANS[0])
    assert aggregation.to_arrays() == {}


@pytest.mark.parametrize("indices", [None, np.array([1, 3], np.int32)])
def test_a_trial_shows_the_change_and_leaves_the_state_as_it_was(indices: np.ndarray | None) -> None:
    aggregation = after_one_step(fedadam(bias_correction=True))
    mean = MEANS[1] if indices is None else MEANS[1][indices]
    before = {name: array.copy() for name, array in aggregation.to_arrays().items()}
    tried = aggregation.tried(mean, indices)
    for name, array in aggregation.to_arrays().items():
        np.testing.assert_array_equal(array, before[name])
    np.testing.assert_array_equal(tried, aggregation.change(mean.copy(), indices))
    assert not np.array_equal(aggregation.to_arrays()["aggregator.m"], before["aggregator.m"])


def test_what_arrived_moves_alone_or_with_all_others() -> None:
    indices, values = np.array([0, 2], np.int32), np.array([3.0, 4.0], np.float32)
    active = np.array([0, 1, 2], np.int32)
    sparse = ServerAggregation(fedavgm(), 4, is_server=True)
    where, mean = sparse.moving(values, indices, active)
    assert where is indices
    assert mean is values
    dense = ServerAggregation(fedavgm(dense=True), 4, is_server=True)
    where, mean = dense.moving(values, indices, None)
    assert where is None
    np.testing.assert_array_equal(mean, np.array([3, 0, 4, 0], np.float32))
    where, mean = dense.moving(values, indices, active)
    assert where is active
    np.testing.assert_array_equal(mean, np.array([3, 0, 4], np.float32))


def test_a_state_goes_on_where_it_was_kept() -> None:
    aggregation, other = after_one_step(fedadam()), ServerAggregation(fedadam(), 4, is_server=True)
    kept = {name: array.copy() for name, array in aggregation.to_arrays().items()}
    other.restore(kept)
    assert other.state["t"] == 1
    assert type(other.state["t"]) is int
    np.testing.assert_array_equal(
        other.change(MEANS[1].copy(), None), aggregation.change(MEANS[1].copy(), None)
    )
    assert kept["aggregator.t"] == 1  # what was read is not what goes on
    assert not np.shares_memory(kept["aggregator.m"], other.state["m"])


def test_a_state_of_another_aggregator_is_refused() -> None:
    kept = after_one_step(fedadam()).to_arrays()
    for aggregation in (
        ServerAggregation(MEAN, 4, is_server=True),
        ServerAggregation(fedavgm(), 4, is_server=True),
        ServerAggregation(fedadam(), 5, is_server=True),
    ):
        with pytest.raises(ValueError, match="which the aggregator does not keep"):
            aggregation.restore(kept)


def test_a_mask_takes_the_state_of_what_it_prunes() -> None:
    aggregation = after_one_step(fedavgm())
    aggregation.drop(Mask(4))
    np.testing.assert_array_equal(aggregation.state["m"], MEANS[0])
    aggregation.drop(Mask.of(np.array([True, False, True, True])))
    np.testing.assert_array_equal(aggregation.state["m"], np.where([1, 0, 1, 1], MEANS[0], 0))


def test_other_ranks_keep_no_state() -> None:
    assert ServerAggregation(fedadam(), 4, is_server=False).state == {}
    for is_server, lost in ((True, 4), (False, 0)):
        answering = Answering(unidirectional.METHOD, WireCodec("coo", "float16"), MEAN, 4, is_server)
        assert answering.lost.size == lost


def test_what_was_lost_is_kept_where_values_are_rounded() -> None:
    assert not Answering(unidirectional.METHOD, WireCodec("coo"), MEAN, 4, True).lost.size
    rounded = Answering(unidirectional.METHOD, WireCodec("coo", "float16"), MEAN, 4, True)
    rounded.lost[:] = [1.0, 2.0, 3.0, 4.0]
    rounded.set_mask(Mask.of(np.array([True, False, True, True])))
    assert rounded.lost.tolist() == [1.0, 3.0, 4.0]
    rounded.set_mask(Mask.of(np.array([False, True, True, True])))
    assert rounded.lost.tolist() == [0.0, 3.0, 4.0]


def test_values_of_another_shape_are_refused() -> None:
    wrong = Aggregator(
        summary="Wrong.",
        combine=lambda updates, samples: updates,
        step=lambda state, mean, indices: (state, mean[:1]),
    )
    aggregation = ServerAggregation(wrong, 4, is_server=True)
    with pytest.raises(ValueError, match=r"made values of shape \(2, 4\), expected is \(4,\)"):
        aggregation.combined(MEANS, np.ones(2, np.int64))
    with pytest.raises(ValueError, match=r"made values of shape \(1,\), expected is \(4,\)"):
        aggregation.change(MEANS[0], None)
    with pytest.raises(ValueError, match=r"made values of shape \(1,\), expected is \(4,\)"):
        aggregation.tried(MEANS[0], None)
