"""Uploads: what is refused, and the probe's truncation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.numerics.topk import top_k
from fedmpi.sparsification import Uploads


def make(
    indices: list[list[int]],
    values: list[list[float]] | None = None,
    weights: list[float] | None = None,
) -> Uploads:
    return Uploads(
        tuple(np.array(part, np.int32) for part in indices),
        tuple(np.array(part, np.float32) for part in values or [[1.0] * len(part) for part in indices]),
        np.array(weights if weights is not None else [1.0] * len(indices)),
        dimension=10,
    )


def test_clients_without_entries_and_the_same_index_of_two_are_accepted() -> None:
    uploads = make([[], [3, 4], [], [4], []])
    assert uploads.clients == 5
    assert make([[9], [0]]).clients == 2


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([[1, 2], [5, 5]], "client 1: indices do not rise at 5"),
        ([[1, 4, 2]], "client 0: indices do not rise at 2"),
        ([[], [4, 2]], "client 1: indices do not rise at 2"),
        ([[4], [], [10]], "client 2: index 10, allowed are 0 to 9"),
        ([[-1, 4]], "client 0: index -1"),
    ],
)
def test_entries_out_of_place_are_refused(indices: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(indices)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"client 1: value .* at index 3"):
        make([[0], [2, 3]], [[1.0], [1.0, value]])


def test_values_of_clients_that_share_their_indices_are_all_looked_at() -> None:
    shared, values = np.array([2, 3], np.int32), np.ones(2, np.float32)
    with pytest.raises(ValueError, match="client 2: value nan at index 3"):
        Uploads((shared,) * 3, (values, values, np.array([1, np.nan], np.float32)), np.ones(3), 10)


def test_lengths_dtypes_and_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="indices of 1 clients, values of 1 and 2 weights"):
        make([[0]], weights=[0.5, 0.5])
    with pytest.raises(ValueError, match="client 0: 2 values do not fit 1 indices"):
        make([[0]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="weights must be finite"):
        make([[0]], weights=[np.nan])
    one = np.ones(1, np.float32)
    with pytest.raises(ValueError, match="client 0: indices must be int32, not int64"):
        Uploads((np.array([0]),), (one,), np.ones(1), 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="client 0: values must be float32, not float64"):
        Uploads((np.array([0], np.int32),), (np.ones(1),), np.ones(1), 3)  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 30))
def test_truncation_is_what_a_smaller_k_would_have_sent(seed: int, clients: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-4, 5, (clients, 25)).astype(np.float32)
    sent = [top_k(row, int(rng.integers(0, 26))) for row in rows]
    smaller = [top_k(row, min(k, part.size)) for row, part in zip(rows, sent, strict=True)]

    def pack(parts: list[np.ndarray]) -> Uploads:
        values = [row[part] for row, part in zip(rows, parts, strict=True)]
        return Uploads(tuple(parts), tuple(values), np.ones(clients), 25)

    found, expected = pack(sent).truncated(k), pack(smaller)
    for one, other in zip(found.parts(), expected.parts(), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize(
    ("position", "index", "value", "message"),
    [
        (1, 3, 1.0, "client 37: indices do not rise at 3"),
        (0, -1, 1.0, "client 37: index -1, allowed are 0 to 9"),
        (1, 10, 1.0, "client 37: index 10, allowed are 0 to 9"),
        (1, 5, np.nan, "client 37: value nan at index 5"),
    ],
)
def test_of_many_clients_the_first_that_breaks_a_rule_is_named(
    position: int, index: int, value: float, message: str
) -> None:
    indices = [np.array([3, 5], np.int32) for _ in range(40)]
    values = [np.ones(2, np.float32) for _ in range(40)]
    assert Uploads(tuple(indices), tuple(values), np.ones(40), 10).rows is not None
    indices[37][position], values[37][position] = index, value
    values[38][0] = np.inf
    with pytest.raises(ValueError, match=message):
        Uploads(tuple(indices), tuple(values), np.ones(40), 10)
