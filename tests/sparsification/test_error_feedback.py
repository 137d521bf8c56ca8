"""Nothing gets lost: what was accumulated was either sent and used, or is still there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.numerics.topk import top_k
from fedmpi.sparsification import SELECTORS, Uploads
from fedmpi.sparsification.error_feedback import take_out
from fedmpi.sparsification.periodic import coordinates
from fedmpi.sparsification.wire import VALUE_BYTES, decode, encode


@pytest.mark.parametrize("value_type", VALUE_BYTES)
@pytest.mark.parametrize("method", SELECTORS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_error_feedback_conserves(method: str, value_type: str, data: st.DataObject) -> None:
    """Rounds with some of the clients, through real messages, with gradients that float32 adds exactly."""
    clients, dimension = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    form = (
        "values" if method == "periodic" else data.draw(st.sampled_from(["auto", "coo", "bitmap", "dense"]))
    )
    accumulated = np.zeros((clients, dimension), np.float32)
    for round_index in range(4):
        k = int(rng.integers(1, dimension + 1))
        shared = coordinates(3, dimension, round_index, k) if method == "periodic" else None
        participants = np.flatnonzero(rng.random(clients) < 0.7)
        before = accumulated.astype(np.float64)
        gradients = rng.integers(-5000, 5000, (clients, dimension)).astype(np.float32)
        gradients[np.setdiff1d(np.arange(clients), participants)] = 0.0
        accumulated += gradients
        indices = [shared if shared is not None else top_k(accumulated[c], k) for c in participants]
        messages = [
            encode(form, j, accumulated[c][j], dimension, value_type=value_type)
            for c, j in zip(participants, indices, strict=True)
        ]
        entries = [decode(message.data, dimension, positions=shared) for message in messages]
        weights = np.full(len(participants), 1 / max(1, len(participants)))
        uploads = Uploads(
            tuple(read.indices for read in entries),
            tuple(read.values for read in entries),
            weights,
            dimension,
        )
        selection = SELECTORS[method](uploads, k)
        taken = np.zeros_like(before)
        flags = uploads.split(selection.used)
        for c, j, message, read, used in zip(participants, indices, messages, entries, flags, strict=True):
            take_out(accumulated[c], j, message.values, used)
            taken[c, j[used]] = read.values[used]
        np.testing.assert_array_equal(accumulated + taken, before + gradients)
        if value_type == "float32":
            assert not accumulated[taken != 0].any()
        # The clients' own view of what was used, where J alone tells it.
        if method != "fub_tree":
            for j, used in zip(indices, flags, strict=True):
                np.testing.assert_array_equal(used, np.isin(j, selection.indices))
