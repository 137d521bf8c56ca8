"""Partitions: disjoint, complete, nobody empty."""

import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config.errors import ConfigError
from fedmpi.config.schema import DataConfig
from fedmpi.learning.partition import BUILT_IN, partition

LABELS = np.random.default_rng(1).integers(0, 10, 600)
WRITERS = np.random.default_rng(2).integers(0, 37, 600) * 3


def _divide(
    config: DataConfig,
    clients: int,
    seed: int = 0,
    labels: np.ndarray = LABELS,
    writers: np.ndarray | None = WRITERS,
) -> list[np.ndarray]:
    return partition(config, labels, writers, clients, np.random.default_rng(seed))


@given(
    name=st.sampled_from(sorted(BUILT_IN)),
    clients=st.integers(1, 40),
    samples=st.integers(1, 300),
    classes=st.integers(1, 8),
    per_client=st.integers(0, 20),
    width=st.integers(1, 4),
    alpha=st.floats(0.05, 50),
    seed=st.integers(0, 2**31),
)
def test_disjoint_complete_and_nobody_empty_or_refused(
    name: str, clients: int, samples: int, classes: int, per_client: int, width: int, alpha: float, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    labels, writers = draw.integers(0, classes, samples), draw.integers(0, 30, samples)
    config = DataConfig(
        partition=name,
        alpha=alpha,
        shards_per_client=width,
        labels_per_client=width,
        samples_per_client=per_client,
    )
    try:
        parts = _divide(config, clients, seed, labels, writers)
    except ConfigError as error:
        assert "allowed" in str(error)  # noqa: PT017
        return
    assert len(parts) == clients
    joined = np.concatenate(parts)
    if name != "case3":
        assert np.unique(joined).size == joined.size
    for part in parts:
        assert part.size > 0
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
        if per_client:
            assert part.size <= per_client
    if per_client == 0:
        assert np.array_equal(np.unique(joined), np.arange(samples))
    again = _divide(config, clients, seed, labels, writers)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_iid_sizes_differ_by_one_at_most() -> None:
    sizes = [part.size for part in _divide(DataConfig(partition="iid"), 7)]
    assert sorted(sizes) == [85, 85, 86, 86, 86, 86, 86]


def test_iid_gives_exactly_samples_per_client() -> None:
    parts = _divide(DataConfig(partition="iid", samples_per_client=3), 150)
    assert {part.size for part in parts} == {3}
    with pytest.raises(ConfigError, match=r"250 clients of 3 samples need 750.*at most 2"):
        _divide(DataConfig(partition="iid", samples_per_client=3), 250)


def test_by_writer_gives_one_writer_each_when_there_are_as_many() -> None:
    ids = np.unique(WRITERS)
    parts = _divide(DataConfig(partition="by_writer"), ids.size)
    for writer, part in zip(ids, parts, strict=True):
        assert np.array_equal(part, np.flatnonzero(writer == WRITERS))


def test_by_writer_groups_neighbours_evenly() -> None:
    parts = _divide(DataConfig(partition="by_writer"), 5)
    ids = [np.unique(WRITERS[part]) for part in parts]
    assert [group.size for group in ids] == [8, 8, 7, 7, 7]
    assert np.array_equal(np.concatenate(ids), np.unique(WRITERS))


def test_by_writer_needs_writers_and_enough_of_them() -> None:
    config = DataConfig(partition="by_writer")
    with pytest.raises(ConfigError, match="the data set does not say who wrote"):
        _divide(config, 2, writers=None)
    with pytest.raises(
        ConfigError, match=r"clients\] count: .* 37 writers among 38 clients; allowed: 1 to 37"
    ):
        _divide(config, 38)


def test_by_label_gives_one_label_each() -> None:
    for clients in (10, 25, 100):
        for client, part in enumerate(_divide(DataConfig(partition="by_label"), clients)):
            assert np.unique(LABELS[part]).tolist() == [client % 10]


def test_by_label_divides_a_label_evenly_among_its_holders() -> None:
    parts = _divide(DataConfig(partition="by_label", labels_per_client=2), 10)
    for client, part in enumerate(parts):
        assert set(LABELS[part]) == {client, (client + 1) % 10}
    counts = np.array([np.bincount(LABELS[part], minlength=10) for part in parts])
    for label in range(10):
        held = counts[:, label][counts[:, label] > 0]
        assert held.size == 2
        assert abs(held[0] - held[1]) <= 1


def test_by_label_refuses_labels_at_no_client() -> None:
    with pytest.raises(
        ConfigError, match=r"7 clients of 1 labels leave labels of 10 at no client.*at least 4"
    ):
        _divide(DataConfig(partition="by_label"), 7)
    parts = _divide(DataConfig(partition="by_label", labels_per_client=4), 7)
    assert sum(part.size for part in parts) == LABELS.size


def test_dirichlet_is_skewed_by_small_alpha_and_even_by_large() -> None:
    labels = np.arange(4000) % 4

    def spread(alpha: float) -> float:
        parts = _divide(DataConfig(partition="dirichlet", alpha=alpha), 5, labels=labels)
        counts = np.array([np.bincount(labels[part], minlength=4) for part in parts])
        return float(counts.std())

    assert spread(1e6) < 2
    assert spread(0.3) > 50


def test_dirichlet_refuses_an_empty_client() -> None:
    config = DataConfig(partition="dirichlet", alpha=0.01)
    with pytest.raises(
        ConfigError, match=r"dirichlet leaves client \d+ of 50 without .* a larger data.alpha"
    ):
        _divide(config, 50)


@pytest.mark.parametrize("alpha", [0.0, -1.0, np.inf, np.nan])
def test_dirichlet_refuses_impossible_alpha(alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha"):
        _divide(DataConfig(partition="dirichlet", alpha=alpha), 3)


def test_shards_hold_few_labels() -> None:
    labels = np.repeat(np.arange(10), 60)[np.random.default_rng(3).permutation(600)]
    config = DataConfig(partition="shards", shards_per_client=2)
    parts = _divide(config, 100, labels=labels)
    assert {part.size for part in parts} == {6}
    assert all(np.unique(labels[part]).size <= 2 for part in parts)
    with pytest.raises(ConfigError, match="shards_per_client: 400 clients of 2 shards for 600 samples"):
        _divide(config, 400, labels=labels)


def test_one_class_for_each_of_100_clients() -> None:
    labels = np.random.default_rng(4).permutation(np.repeat(np.arange(10), 5_000))
    for name in ("by_label", "case2"):
        parts = _divide(DataConfig(partition=name), 100, labels=labels)
        assert {part.size for part in parts} == {500}
        assert [np.unique(labels[part]).tolist() for part in parts] == [
            [client % 10] for client in range(100)
        ]


def test_case1_is_round_robin() -> None:
    for client, part in enumerate(_divide(DataConfig(partition="case1"), 7)):
        assert np.array_equal(part, np.arange(client, 600, 7))


def test_case2_deals_the_samples_of_a_label_in_turn() -> None:
    parts = _divide(DataConfig(partition="case2"), 25)
    for client, part in enumerate(parts):
        label = client % 10
        holders = [other for other in range(25) if other % 10 == label]
        members = np.flatnonzero(label == LABELS)
        assert np.array_equal(part, members[holders.index(client) :: len(holders)])


def test_case2_with_fewer_clients_than_labels() -> None:
    parts = _divide(DataConfig(partition="case2"), 4)
    assert [np.unique(LABELS[part]).tolist() for part in parts] == [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]


def test_case2_takes_labels_by_their_order() -> None:
    labels = 100 + 3 * LABELS
    assert all(
        np.array_equal(a, b)
        for a, b in zip(
            _divide(DataConfig(partition="case2"), 12, labels=labels),
            _divide(DataConfig(partition="case2"), 12),
            strict=True,
        )
    )


def test_case3_gives_everyone_everything_in_one_array() -> None:
    parts = _divide(DataConfig(partition="case3"), 1000)
    assert len(parts) == 1000
    assert np.array_equal(parts[0], np.arange(600))
    assert all(part is parts[0] for part in parts)
    with pytest.raises(ValueError, match="read-only"):
        parts[0][0] = 1


def test_case3_gives_everyone_another_choice_when_capped() -> None:
    parts = _divide(DataConfig(partition="case3", samples_per_client=50), 20)
    assert {part.size for part in parts} == {50}
    assert np.unique(np.concatenate(parts)).size > 400


@pytest.mark.parametrize("clients", [10, 13, 3])
def test_case4_halves_labels_and_clients(clients: int) -> None:
    parts = _divide(DataConfig(partition="case4"), clients)
    half = -(-clients // 2)
    lower = np.flatnonzero(LABELS < 5)
    for client, part in enumerate(parts[:half]):
        assert np.array_equal(part, lower[client::half])
    for place, part in enumerate(parts[half:]):
        expected = [label for label in range(5) if label % (clients - half) == place % 5]
        if clients - half >= 5:
            expected = [place % 5]
        assert np.unique(LABELS[part]).tolist() == [5 + label for label in expected]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(600))


def test_case4_counts_the_middle_label_as_a_lower_one() -> None:
    labels = np.arange(30) % 3
    first, second = _divide(DataConfig(partition="case4"), 2, labels=labels)
    assert np.unique(labels[first]).tolist() == [0, 1]
    assert np.unique(labels[second]).tolist() == [2]


def test_case4_needs_two_clients_and_two_labels() -> None:
    with pytest.raises(ConfigError, match="case4 cannot halve 1 clients and 10 labels"):
        _divide(DataConfig(partition="case4"), 1)
    with pytest.raises(ConfigError, match="case4 cannot halve 2 clients and 1 labels"):
        _divide(DataConfig(partition="case4"), 2, labels=np.zeros(9, dtype=np.int64))


def test_cases_leave_no_client_empty() -> None:
    for name in ("case1", "case2", "case4"):
        with pytest.raises(ConfigError, match=f"{name} leaves client .* without any .*fewer|up to"):
            _divide(DataConfig(partition=name), 700)


def test_cases_draw_nothing() -> None:
    for name in ("case1", "case2", "case3", "case4"):
        first = _divide(DataConfig(partition=name), 20, seed=1)
        second = _divide(DataConfig(partition=name), 20, seed=2)
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_samples_per_client_caps_other_partitions() -> None:
    config = DataConfig(partition="by_writer", samples_per_client=9)
    whole = _divide(replace(config, samples_per_client=0), 37)
    capped = _divide(config, 37)
    for all_samples, part in zip(whole, capped, strict=True):
        assert part.size == min(9, all_samples.size)
        assert np.isin(part, all_samples).all()


def test_another_seed_divides_otherwise() -> None:
    for name in ("iid", "by_label", "dirichlet", "shards"):
        config = DataConfig(partition=name, alpha=5.0)
        first, second = _divide(config, 20, seed=1), _divide(config, 20, seed=2)
        assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_unknown_partition_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[data\] partition: found \"random\".*iid, by_writer"):
        _divide(DataConfig(partition="random"), 2)


def test_far_too_many_clients_are_refused_at_once() -> None:
    for name in sorted(set(BUILT_IN) - {"case3"}):
        with pytest.raises(ConfigError, match=f"{name} leaves client [0-9]+ of 1000000000000 without any of"):
            _divide(DataConfig(partition=name), 10**12)


def users_division(divided: object, monkeypatch: pytest.MonkeyPatch, samples: int = 6) -> object:
    """What becomes of a partition of a user's own that gives ``divided`` to three clients."""
    module = ModuleType("users_partition")
    module.divide = lambda labels, writers, clients, rng: divided  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_partition", module)
    config = DataConfig(partition="users_partition:divide")
    return partition(config, np.zeros(samples, np.int64), None, 3, np.random.default_rng(0))


def test_a_partition_of_ones_own_is_taken_in_rising_order(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [np.array([5, 0]), np.array([2]), np.array([0, 4, 3])]
    division = users_division(parts, monkeypatch)
    assert [part.tolist() for part in division] == [[0, 5], [2], [0, 3, 4]]


@pytest.mark.parametrize(
    ("divided", "message"),
    [
        (np.zeros((3, 2), np.int64), "gave a ndarray; allowed: a list of 3 arrays"),
        ([np.array([0])] * 2, "gave a list of 2; allowed: a list of 3 arrays"),
        ([np.array([0]), [1], np.array([2])], "gave client 1 no array of integers"),
        ([np.array([0]), np.array([1]), np.array([[2]])], "gave client 2 no array of integers"),
        ([np.array([0.0]), np.array([1]), np.array([2])], "gave client 0 no array of integers"),
        ([np.array([0]), np.array([1]), np.array([2, 6])], "gave client 2 positions that are out of range"),
        ([np.array([0]), np.array([-1, 1]), np.array([2])], "gave client 1 positions that are out of range"),
        ([np.array([0, 3]), np.array([4, 1, 4]), np.array([2])], "gave client 1 positions .* there twice"),
        ([np.array([0, 0]), np.array([1]), np.array([2])], "gave client 0 positions .* there twice"),
        ([np.array([0]), np.array([], np.int64), np.array([2])], "leaves client 1 of 3 without any"),
    ],
)
def test_a_partition_of_ones_own_is_checked(
    divided: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=message):
        users_division(divided, monkeypatch)


def fails_to_divide(labels, writers, clients, rng):
    raise RuntimeError("on two\nlines")


def leaves(labels, writers, clients, rng):
    sys.exit(3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fails_to_divide", r"failed: RuntimeError: on two lines \(test_partition.py, line \d+\)"),
        ("leaves", "failed: SystemExit: 3"),
    ],
)
def test_a_users_partition_that_fails_is_one_line(name, message):
    config = DataConfig(partition=f"{__name__}:{name}")
    with pytest.raises(
        ConfigError, match=rf'^\[data\] partition: "{__name__}:{name}": .* {message}'
    ) as refused:
        partition(config, np.zeros(9, np.int64), None, 3, np.random.default_rng(0))
    assert "\n" not in str(refused.value)


OTHERS_DRAWS = np.random.default_rng(1)


def of_others_draws(labels, writers, clients, rng):
    return np.array_split(OTHERS_DRAWS.permutation(labels.size), clients)


def of_given_and_global_draws(labels, writers, clients, rng):
    rng.shuffle(places := np.random.permutation(labels.size))  # noqa: NPY002
    return np.array_split(places, clients)


def test_a_partition_that_a_resumed_run_would_not_find_again_is_refused():
    labels = np.zeros(90, np.int64)
    found = [
        partition(
            DataConfig(partition=f"{__name__}:of_given_and_global_draws"),
            labels,
            None,
            3,
            np.random.default_rng(seed),
        )
        for seed in (0, 0, 1)
    ]
    shares = [np.concatenate(list(division)) for division in found]
    assert np.array_equal(shares[0], shares[1])
    assert not np.array_equal(shares[0], shares[2])
    config = DataConfig(partition=f"{__name__}:of_others_draws")
    with pytest.raises(ConfigError, match="the function gave another result for the same arguments"):
        partition(config, labels, None, 3, np.random.default_rng(0))
