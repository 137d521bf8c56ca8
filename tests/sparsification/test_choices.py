"""What clients send other than their largest entries: at random, by a threshold, layer by layer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedmpi.numerics.streams import Purpose, generator
from fedmpi.sparsification.choices import LEAST, MOST, at_random, by_layer, threshold
from fedmpi.sparsification.interface import ALL_CLIENTS, Choice

VECTORS = arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.one_of(st.just(0.0), st.floats(-4, 4, width=32, allow_nan=False)),
)


@given(VECTORS, st.floats(LEAST, 4.0), st.integers(1, 40))
def test_what_reaches_the_threshold_is_sent_and_zeros_never_are(
    vector: np.ndarray, value: float, k: int
) -> None:
    k = min(k, len(vector))
    found = threshold(value).choose(vector, k, Choice(0, 0, 0, []))
    reaching = [i for i in range(len(vector)) if abs(vector[i]) >= np.float32(value)]
    largest = sorted(reaching, key=lambda i: (-abs(vector[i]), i))[:k]
    assert found.tolist() == sorted(largest)
    assert found.dtype == np.int32
    assert (vector[found] != 0).all()


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-46, 3.5e38, np.inf, np.nan])
def test_a_threshold_that_no_gradient_can_have_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"value is .*, allowed are 1\.4012985e-45 to 3\.4028235e\+38"):
        threshold(value)


@pytest.mark.parametrize("value", [LEAST, MOST])
def test_any_magnitude_of_a_gradient_may_be_the_threshold(value: float) -> None:
    vector = np.array([0.0, LEAST, -MOST], np.float32)
    found = threshold(value).choose(vector, 3, Choice(0, 0, 0, []))
    assert found.tolist() == [i for i in (1, 2) if abs(vector[i]) >= value]


@given(VECTORS, st.integers(0, 5), st.data())
def test_random_entries_are_as_many_as_wished_and_each_clients_own(
    vector: np.ndarray, client: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(vector)))
    choice = Choice(3, 1, client, [])
    found = at_random(vector, k, choice)
    assert len(found) == k
    assert (np.diff(found) > 0).all()
    assert found.tolist() == at_random(-vector, k, choice).tolist()  # whatever the values are
    everybody = {tuple(at_random(np.zeros(40), 20, Choice(3, 1, other, []))) for other in range(4)}
    assert len(everybody) == 4


@pytest.mark.parametrize(("client", "stream"), [(4, 5), (ALL_CLIENTS, 0)])
def test_a_choice_draws_from_a_stream_of_its_own(client: int, stream: int) -> None:
    choice, own = Choice(3, 7, client, []), generator(3, Purpose.SPARSIFICATION, 7, stream)
    assert choice.draw().bit_generator.state == choice.draw().bit_generator.state == own.bit_generator.state


def test_layers_send_in_proportion_to_their_sizes() -> None:
    vector = np.arange(1, 31, dtype=np.float32)
    layers = [slice(0, 10), slice(10, 30)]
    assert by_layer(vector, 3, Choice(0, 0, 0, layers)).tolist() == [9, 28, 29]
