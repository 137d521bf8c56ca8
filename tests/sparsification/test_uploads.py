"""Uploads: what is refused, and the probe's truncation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.numerics.topk import top_k
from fedmpi.sparsification import Uploads


def make(
    offsets: list[int],
    indices: list[int],
    values: list[float] | None = None,
    weights: list[float] | None = None,
) -> Uploads:
    return Uploads(
        np.array(offsets, np.int64),
        np.array(indices, np.int32),
        np.array(values if values is not None else [1.0] * len(indices), np.float32),
        np.array(weights if weights is not None else [1.0] * (len(offsets) - 1)),
        dimension=10,
    )


def test_clients_without_entries_and_the_same_index_at_a_boundary_are_accepted() -> None:
    uploads = make([0, 0, 2, 2, 3, 3], [3, 4, 4])
    assert uploads.clients == 5
    assert make([0, 1, 2], [9, 0]).clients == 2


@pytest.mark.parametrize(
    ("offsets", "indices", "message"),
    [
        ([0, 2, 4], [1, 2, 5, 5], "client 1: indices do not rise at 5"),
        ([0, 3], [1, 4, 2], "client 0: indices do not rise at 2"),
        ([0, 0, 2], [4, 2], "client 1: indices do not rise at 2"),
        ([0, 1, 1, 2], [4, 10], "client 2: index 10, allowed are 0 to 9"),
        ([0, 2], [-1, 4], "client 0: index -1"),
        ([0, 3], [1, 4], "offsets must rise from 0 to 2"),
        ([0, 2, 1, 2], [1, 4], "offsets must rise"),
        ([1, 2], [1, 4], "offsets must rise"),
    ],
)
def test_entries_out_of_place_are_refused(offsets: list[int], indices: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(offsets, indices)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"client 1: value .* at index 3"):
        make([0, 1, 3], [0, 2, 3], [1.0, 1.0, value])


def test_lengths_dtypes_and_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 offsets do not fit 2 weights"):
        make([0, 1], [0], weights=[0.5, 0.5])
    with pytest.raises(ValueError, match="2 values 1 indices"):
        make([0, 1], [0], [1.0, 2.0])
    with pytest.raises(ValueError, match="weights must be finite"):
        make([0, 1], [0], weights=[np.nan])
    with pytest.raises(ValueError, match="int64"):
        Uploads(np.array([0, 1]), np.array([0]), np.ones(1, np.float32), np.ones(1), 3)  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 30))
def test_truncation_is_what_a_smaller_k_would_have_sent(seed: int, clients: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-4, 5, (clients, 25)).astype(np.float32)
    sent = [top_k(row, int(rng.integers(0, 26))) for row in rows]
    smaller = [top_k(row, min(k, part.size)) for row, part in zip(rows, sent, strict=True)]

    def pack(parts: list[np.ndarray]) -> Uploads:
        values = [row[part] for row, part in zip(rows, parts, strict=True)]
        offsets = np.cumsum([0] + [part.size for part in parts], dtype=np.int64)
        none = [np.empty(0, np.int32)]
        return Uploads(
            offsets,
            np.concatenate(none + parts),
            np.concatenate([np.empty(0, np.float32), *values]),
            np.ones(clients),
            25,
        )

    found, expected = pack(sent).truncated(k), pack(smaller)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.values, expected.values)
