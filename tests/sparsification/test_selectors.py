"""Server selection: against the authors' vectors, and its invariants."""

import json
import tracemalloc
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.config import parts
from fedmpi.numerics.topk import top_k
from fedmpi.sparsification import Selection, SparseMethod, Uploads, fab
from fedmpi.sparsification import uploads as uploads_module
from fedmpi.sparsification.wire import decode, encode

LIMITED = ("fab", "fub_flat", "fub_tree")
SELECTORS = {
    name: parts.build("sparsification.method", name, {}, SparseMethod).select
    for name in (*LIMITED, "unidirectional", "periodic")
}


def upload(accumulated: np.ndarray, sizes: np.ndarray, k: int) -> Uploads:
    """The k largest entries of every row."""
    indices = [top_k(row, k) for row in accumulated]
    values = [row[chosen] for row, chosen in zip(accumulated, indices, strict=True)]
    return Uploads(tuple(indices), tuple(values), sizes / sizes.sum(), accumulated.shape[1])


def used_mask(uploads: Uploads, selection: Selection) -> np.ndarray:
    mask = np.zeros((uploads.clients, uploads.dimension), np.bool_)
    for row, indices, used in zip(mask, uploads.indices, uploads.split(selection.used), strict=True):
        row[indices[used]] = True
    return mask


@pytest.mark.parametrize("method", LIMITED)
def test_selections_equal_the_published_programs(method: str, golden_dir: Path) -> None:
    with np.load(golden_dir / "server_selection.npz") as golden:
        cases = [case for case in json.loads(str(golden["meta"])) if method in case["methods"]]
        assert cases
        for case in cases:
            prefix = f"{case['case']}/"
            accumulated = golden[prefix + "accumulated"]
            uploads = upload(accumulated, golden[prefix + "data_size"], case["k"])
            selection = SELECTORS[method](uploads, case["k"])
            np.testing.assert_array_equal(selection.indices, golden[f"{prefix}{method}/indices"])
            np.testing.assert_allclose(selection.values, golden[f"{prefix}{method}/values"], rtol=1e-5)
            packed = golden[f"{prefix}{method}/client_used"]
            expected = np.unpackbits(packed, axis=1)[:, : uploads.dimension].astype(np.bool_)
            np.testing.assert_array_equal(used_mask(uploads, selection), expected)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Uploads, int]:
    """A few clients that sent different numbers of entries, often of equal magnitudes, and a downlink k."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    clients, dimension = draw(st.integers(1, 9)), draw(st.integers(1, 60))
    tied = draw(st.booleans())
    least = draw(st.integers(0, dimension))
    indices, values = [], []
    for _ in range(clients):
        row = rng.integers(-3, 4, dimension) if tied else rng.standard_normal(dimension)
        indices.append(top_k(row.astype(np.float32), int(rng.integers(least, dimension + 1))))
        values.append(row[indices[-1]].astype(np.float32))
    sizes = rng.integers(1, 50, clients).astype(np.float64)
    uploads = Uploads(tuple(indices), tuple(values), sizes / sizes.sum(), dimension)
    return uploads, draw(st.integers(0, dimension))


def entries_of(uploads: Uploads) -> list[list[tuple[int, float]]]:
    return [
        list(zip(indices.tolist(), values.tolist(), strict=True)) for indices, values, _ in uploads.parts()
    ]


def plain_fab(uploads: Uploads, k: int) -> list[int]:
    """The description of the paper, word by word."""
    ranked = [sorted(sent, key=lambda entry: (-abs(entry[1]), entry[0])) for sent in entries_of(uploads)]
    chosen: set[int] = set()
    for kappa in range(max(len(sent) for sent in ranked)):
        wider = chosen | {sent[kappa][0] for sent in ranked if kappa < len(sent)}
        if len(wider) > k:
            peaks: dict[int, float] = {}
            for index, value in (sent[kappa] for sent in ranked if kappa < len(sent)):
                peaks[index] = max(abs(value), peaks.get(index, 0.0))
            filling = sorted(wider - chosen, key=lambda index: (-peaks[index], index))
            return sorted(chosen | set(filling[: k - len(chosen)]))
        chosen = wider
    return sorted(chosen)


def plain_fub_flat(uploads: Uploads, k: int) -> list[int]:
    sums: dict[int, float] = {}
    for weight, sent in zip(uploads.weights.tolist(), entries_of(uploads), strict=True):
        for index, value in sent:
            sums[index] = sums.get(index, 0.0) + weight * value
    return sorted(sorted(sums, key=lambda index: (-abs(sums[index]), index))[:k])


def plain_fub_tree(uploads: Uploads, k: int) -> tuple[list[int], set[tuple[int, int]]]:
    """The set J, and (client, index) of every entry that survived."""
    level = []
    for client, (weight, sent) in enumerate(zip(uploads.weights.tolist(), entries_of(uploads), strict=True)):
        level.append(({i: weight * v for i, v in sent}, {(client, i) for i, _ in sent}))
    single = len(level) == 1
    while len(level) > 1 or single:
        above = []
        for number in range(0, len(level), 2):
            if number + 1 == len(level) and not single:
                above.append(level[number])
                continue
            sums: dict[int, float] = {}
            entries: set[tuple[int, int]] = set()
            for part, owners in level[number : number + 2]:
                entries |= owners
                for index, value in part.items():
                    sums[index] = sums.get(index, 0.0) + value
            kept = sorted(sums, key=lambda index: (-abs(sums[index]), index))[:k]
            above.append(({i: sums[i] for i in kept}, {(c, i) for c, i in entries if i in kept}))
        level, single = above, False
    return sorted(level[0][0]), level[0][1]


@given(rounds())
def test_fab_equals_its_description(case: tuple[Uploads, int]) -> None:
    uploads, k = case
    assert SELECTORS["fab"](uploads, k).indices.tolist() == plain_fab(uploads, k)


@given(rounds())
def test_fab_equals_its_description_where_a_sample_guides_it(case: tuple[Uploads, int]) -> None:
    uploads, k = case
    with mock.patch.multiple(fab, _FEW_ENTRIES=0, _SAMPLE_ENTRIES=10):
        assert fab.select(uploads, k).indices.tolist() == plain_fab(uploads, k)


def test_fab_refuses_a_negative_k() -> None:
    uploads = Uploads((np.array([1], np.int32),), (np.array([2.0], np.float32),), np.ones(1), 3)
    with pytest.raises(ValueError, match="k is -1"):
        fab.select(uploads, -1)


@pytest.mark.parametrize("misled", [(0, 1), (3, 4), (20, 30), (2**30, 2**30)])
def test_fab_survives_a_sample_that_misleads(misled: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    indices = tuple(np.sort(rng.choice(200, 40, replace=False)).astype(np.int32) for _ in range(4))
    values = tuple(rng.standard_normal(40).astype(np.float32) for _ in range(4))
    uploads = Uploads(indices, values, np.full(4, 0.25), 200)
    for k in (0, 7, 50, 160):
        with mock.patch.object(fab, "_bracket", return_value=misled):
            assert fab.select(uploads, k).indices.tolist() == plain_fab(uploads, k)


@given(rounds())
def test_fub_flat_equals_its_description(case: tuple[Uploads, int]) -> None:
    uploads, k = case
    assert SELECTORS["fub_flat"](uploads, k).indices.tolist() == plain_fub_flat(uploads, k)


@given(rounds())
def test_fub_tree_equals_its_description(case: tuple[Uploads, int]) -> None:
    uploads, k = case
    selection = SELECTORS["fub_tree"](uploads, k)
    indices, entries = plain_fub_tree(uploads, k)
    # An odd client that is carried up to the last merge has not been cut before: the plain way agrees.
    assert selection.indices.tolist() == indices
    assert {tuple(pair) for pair in np.argwhere(used_mask(uploads, selection)).tolist()} == entries


@given(rounds())
def test_unidirectional_is_everything_that_was_sent(case: tuple[Uploads, int]) -> None:
    uploads, k = case
    selection = SELECTORS["unidirectional"](uploads, k)
    np.testing.assert_array_equal(selection.indices, np.unique(np.concatenate(uploads.indices)))
    assert selection.used.all()


@pytest.mark.parametrize("method", SELECTORS)
@given(case=rounds())
def test_a_selection_is_the_sum_in_client_order_of_what_it_used(
    method: str, case: tuple[Uploads, int]
) -> None:
    uploads, k = case
    selection = SELECTORS[method](uploads, k)
    assert selection.indices.dtype == np.int32
    assert selection.values.dtype == np.float64
    assert (np.diff(selection.indices) > 0).all()
    sent = np.unique(np.concatenate(uploads.indices))
    if method in LIMITED:
        assert selection.indices.size <= k
    if method in ("fab", "fub_flat"):
        assert selection.indices.size == min(k, sent.size)
    expected = np.zeros(uploads.dimension)
    used_indices = set()
    for (indices, values, weight), used in zip(uploads.parts(), uploads.split(selection.used), strict=True):
        expected[indices[used]] += np.float64(weight) * values[used]
        used_indices.update(indices[used].tolist())
    assert selection.values.tolist() == expected[selection.indices].tolist()
    assert used_indices == set(selection.indices.tolist())
    assert selection.contributions(uploads).sum() == np.count_nonzero(selection.used)


@given(rounds())
def test_fab_takes_at_least_a_fair_share_of_every_client(case: tuple[Uploads, int]) -> None:
    uploads, k = case
    contributions = SELECTORS["fab"](uploads, k).contributions(uploads)
    sizes = [indices.size for indices in uploads.indices]
    assert (contributions >= np.minimum(k // uploads.clients, sizes)).all()


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 400))
def test_fab_is_fair_to_clients_of_much_smaller_gradients(seed: int, clients: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scales = np.logspace(-6, 3, clients, dtype=np.float32)[:, None]
    accumulated = rng.standard_normal((clients, 9000)).astype(np.float32) * scales
    uploads = upload(accumulated, np.ones(clients), k)
    assert SELECTORS["fab"](uploads, k).contributions(uploads).min() >= k // clients


@pytest.mark.parametrize("method", SELECTORS)
def test_the_server_needs_less_than_twice_the_memory_of_the_messages(method: str) -> None:
    """Messages read, selection, answer written; the clients' entries are about 63 % of all coordinates together."""
    clients, k, dimension = 100, 4440, 444_062
    rng = np.random.default_rng(0)
    shared = np.arange(k, dtype=np.int32) * 100 if method == "periodic" else None
    messages = []
    for _ in range(clients):
        indices = np.unique(rng.integers(0, dimension, k, dtype=np.int32)) if shared is None else shared
        values = rng.standard_normal(indices.size, dtype=np.float32)
        messages.append(encode("coo" if shared is None else "values", indices, values, dimension).data)
    tracemalloc.start()
    indices, values, _ = zip(*(decode(data, dimension, positions=shared) for data in messages), strict=True)
    selection = SELECTORS[method](Uploads(indices, values, np.full(clients, 1 / clients), dimension), k)
    encode("auto", selection.indices, selection.values.astype(np.float32), dimension)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * sum(data.nbytes for data in messages)


@pytest.mark.parametrize("method", SELECTORS)
def test_nothing_sent_gives_nothing(method: str) -> None:
    nothing = Uploads((np.empty(0, np.int32),) * 2, (np.empty(0, np.float32),) * 2, np.ones(2) / 2, 9)
    selection = SELECTORS[method](nothing, 4)
    assert selection.indices.size == selection.values.size == selection.used.size == 0
    nobody = Uploads((), (), np.empty(0), 9)
    assert SELECTORS[method](nobody, 4).indices.size == 0


@pytest.mark.parametrize("method", LIMITED)
def test_a_negative_k_is_refused(method: str) -> None:
    uploads = upload(np.arange(10, dtype=np.float32).reshape(2, 5), np.ones(2), 3)
    with pytest.raises(ValueError, match="k is -1"):
        SELECTORS[method](uploads, -1)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    clients=st.integers(32, 60),
    sent=st.integers(1, 20),
    k=st.integers(0, 60),
    tied=st.booleans(),
    method=st.sampled_from(sorted(SELECTORS)),
)
def test_many_clients_at_once_are_selected_from_as_one_after_the_other(
    seed: int, clients: int, sent: int, k: int, tied: bool, method: str
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-3, 4, (clients, 60)) if tied else rng.standard_normal((clients, 60))
    sizes = rng.integers(1, 50, clients).astype(np.float64)
    many = upload(rows.astype(np.float32), sizes, sent)
    with mock.patch.object(uploads_module, "_MANY", clients + 1):
        alone = upload(rows.astype(np.float32), sizes, sent)
        assert alone.rows is None
        expected = SELECTORS[method](alone, k)
        shorter = alone.truncated(k)
    assert many.rows is not None
    found = SELECTORS[method](many, k)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.used, expected.used)
    np.testing.assert_array_equal(found.contributions(many), expected.contributions(alone))
    for one, other in zip(many.truncated(k).parts(), shorter.parts(), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
