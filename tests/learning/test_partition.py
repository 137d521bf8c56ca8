"""Partitions: disjoint, complete, nobody empty."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config.errors import ConfigError
from fedmpi.config.schema import DataConfig
from fedmpi.learning.partition import PARTITIONS, partition

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
    name=st.sampled_from(sorted(PARTITIONS)),
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
    assert np.unique(joined).size == joined.size
    for part in parts:
        assert part.size > 0
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
        if per_client:
            assert part.size <= per_client
    if per_client == 0:
        assert np.array_equal(np.sort(joined), np.arange(samples))
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
    with pytest.raises(ConfigError, match="digits does not know who wrote"):
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
    with pytest.raises(ConfigError, match=r"there is no partition 'random'.*iid, by_writer"):
        _divide(DataConfig(partition="random"), 2)
