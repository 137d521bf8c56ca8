"""Whole messages of participants that stopped, from rows of a trace that are made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedmpi.config import loads
from fedmpi.experiment.recorded import Recorded
from fedmpi.experiment.whole_downloads import (
    Downloads,
    has_one_length,
    length_follows,
    most_common,
    most_recorded,
)
from fedmpi.experiment.whole_work import whole_samples
from fedmpi.sparsification import WireCodec
from fedmpi.sparsification.choices import RANDOM_K, threshold
from fedmpi.sparsification.codec import DENSE
from fedmpi.sparsification.qsgd import QuantizedCodec
from fedmpi.sparsification.settings import codec_of, method_of
from fedmpi.sparsification.stc import TernaryCodec
from fedmpi.trace import Status
from fedmpi.trace.schema import SCHEMA_VERSION, tables

PARAMETERS, CLIENTS, TAIL = 10, 4, 8
MODEL = 16 + 4 * PARAMETERS + TAIL
DENSE_RUN = ["sparsification.method=dense"]
FAB = ["sparsification.method=fab", "sparsification.k=3", "sparsification.wire=coo"]
FEDAVG = ["sparsification.method=fedavg", "sparsification.k=2"]
STC = ["sparsification.method=stc", "sparsification.k=3"]


def recorded_of(rows: list[tuple[int, Status, int, int, int]], k_probe: int = 0) -> Recorded:
    """Rows of clients 0, 1, ..: round, status, entries sent, bytes up and bytes down."""
    types = tables(SCHEMA_VERSION)
    clients = np.zeros(len(rows), types["clients"])
    for at, (number, status, entries, up, down) in enumerate(rows):
        clients["round"][at], clients["status"][at], clients["entries_sent"][at] = number, status, entries
        clients["bytes_up"][at], clients["bytes_down"][at] = up, down
        clients["client"][at] = at % CLIENTS
    count = max(number for number, *_ in rows) + 1
    rounds = np.zeros(count, types["rounds"])
    rounds["round"], rounds["k_probe"] = np.arange(count), k_probe
    devices = np.zeros(CLIENTS, types["devices"])
    devices["samples"] = [5, 10, 20, 40]
    bounds = np.searchsorted(clients["round"], np.arange(count + 1))
    rows_of = {"clients": clients, "rounds": rounds, "devices": devices}
    zeros = np.zeros(count, np.int64)
    return Recorded(Path("trace.h5"), {"parameters": PARAMETERS}, rows_of, bounds, zeros, zeros[:1, None])


def downloads_of(
    recorded: Recorded, overrides: list[str], sketch_bytes: int = 0, losses: bool = False
) -> Downloads:
    config = loads("", [f"clients.count={CLIENTS}", *overrides])
    return Downloads(recorded, config, method_of(config.sparsification), sketch_bytes, losses)


def whole(downloads: Downloads, clients: list[int], arrived: list[int], complete: list[bool]) -> list:
    found, known = downloads.whole_bytes(np.array(clients), np.array(arrived), np.array(complete))
    return list(zip(found.tolist(), known.tolist(), strict=True))


def dense() -> Downloads:
    return downloads_of(recorded_of([(0, Status.OK, PARAMETERS, MODEL, MODEL)] * 3), DENSE_RUN)


def sparse() -> Downloads:
    return downloads_of(recorded_of([(0, Status.OK, 3, 16 + 3 * 8 + TAIL, MODEL)] * 3), FAB)


def test_the_most_common_of_several_is_the_lowest() -> None:
    assert most_common(np.array([3, 7, 7, 3, 9])) == 3
    assert most_common(np.array([3, 7, 7])) == 7


def test_no_recorded_size_is_beyond_belief() -> None:
    assert most_recorded(np.array([5, 2])) == 5
    assert most_recorded(np.array([], np.int64)) == 0
    assert most_recorded(np.array([2**62])) == 2**50


def test_lengths_follow_from_entries_but_for_codes() -> None:
    assert length_follows(WireCodec("auto"))
    assert length_follows(DENSE)
    assert length_follows(QuantizedCodec(7, 128, False))
    assert not length_follows(QuantizedCodec(7, 128, True))
    assert not length_follows(TernaryCodec())


@pytest.mark.parametrize(
    ("overrides", "one"),
    [
        (DENSE_RUN, True),
        (FAB, True),
        (FEDAVG, True),
        (["sparsification.method=periodic", "sparsification.k=3"], True),
        (["sparsification.method=qsgd"], True),
        (["sparsification.method=qsgd", "sparsification.options.elias=true"], False),
        (STC, False),
    ],
)
def test_messages_have_one_length_where_as_many_entries_are_chosen(overrides: list[str], one: bool) -> None:
    section = loads("", overrides).sparsification
    method = method_of(section)
    assert has_one_length(codec_of(section, method), method) == one
    assert has_one_length(WireCodec("coo"), RANDOM_K)
    assert not has_one_length(WireCodec("coo"), threshold())


def test_who_has_the_same_version_is_sent_the_same() -> None:
    downloads = sparse()
    assert whole(downloads, [0, 1, 2], [70, 30, 70], [True, False, True]) == [(70, True)] * 3
    downloads.delivered(np.array([0, 1]))
    # Client 2 has another version than 0 and 1, of whom one tells of the other.
    expected = [(33, True), (33, True), (MODEL, True)]
    assert whole(downloads, [0, 1, 2], [33, 4, 9], [True, False, False]) == expected


def test_a_new_client_is_sent_the_model_with_its_buffers() -> None:
    for downloads in (dense(), sparse()):
        assert downloads.most_bytes == MODEL
        assert whole(downloads, [1, 3], [9, 0], [False, False]) == [(MODEL, True)] * 2


def test_who_has_the_present_version_is_sent_a_header() -> None:
    downloads = sparse()
    downloads.delivered(np.array([2]))
    assert whole(downloads, [2], [5], [False]) == [(16, True)]


def test_one_missed_change_follows_from_its_number_of_entries_and_two_do_not() -> None:
    downloads = sparse()
    downloads.delivered(np.array([0, 1, 2]))
    downloads.advance(2)
    assert whole(downloads, [0], [5], [False]) == [(16 + 2 * 8 + TAIL, True)]
    downloads.advance(3)
    assert whole(downloads, [0], [5], [False]) == [(MODEL, False)]
    downloads.delivered(np.array([0]))
    assert whole(downloads, [0], [5], [False]) == [(16, True)]
    downloads.advance(0)  # no entry came down, but the buffers did
    assert whole(downloads, [0], [5], [False]) == [(16 + TAIL, True)]
    downloads.advance(PARAMETERS)
    downloads.advance(1)
    assert whole(downloads, [1], [5], [False]) == [(MODEL, True)]  # one of the missed changes was of all


def test_dense_changes_are_of_all_coordinates() -> None:
    downloads = dense()
    downloads.delivered(np.array([0]))
    downloads.advance(PARAMETERS)
    downloads.advance(PARAMETERS)
    assert whole(downloads, [0], [5], [False]) == [(MODEL, True)]


@pytest.mark.parametrize("k_probe", [0, 2])
def test_what_messages_carry_beside_entries_is_no_buffer(k_probe: int) -> None:
    """A sketch of 6 bytes, and the losses of two or three models behind a header."""
    report = 16 + 4 * (3 if k_probe else 2)
    recorded = recorded_of([(0, Status.OK, 3, 16 + 3 * 8 + TAIL + 6 + report, MODEL)] * 3, k_probe)
    control = ["sparsification.method=fab", "sparsification.wire=coo", "k_control.method=ogd_sign"]
    downloads = downloads_of(recorded, control, sketch_bytes=6, losses=True)
    assert downloads.most_bytes == MODEL


def test_rounds_without_an_exchange_do_not_tell_of_buffers() -> None:
    """Nor do messages that were cut off."""
    nothing, cut = (0, Status.OK, 0, 0, 0), (1, Status.LATE, PARAMETERS, 7, 0)
    recorded = recorded_of([*[nothing] * 4, *[cut] * 3, (1, Status.OK, PARAMETERS, MODEL, MODEL)])
    assert downloads_of(recorded, FEDAVG).most_bytes == MODEL
    untold = downloads_of(recorded_of([nothing, (0, Status.OK, 0, 0, 500)]), FEDAVG)
    assert untold.most_bytes == 16 + 8 * PARAMETERS + 500
    assert whole(untold, [0], [3], [False]) == [(untold.most_bytes, False)]


def test_where_lengths_do_not_follow_the_first_download_tells_of_buffers() -> None:
    rows = [(0, Status.OK, 3, 30, MODEL)] * 2 + [(1, Status.OK, 3, 30, 20)] * 3
    assert downloads_of(recorded_of(rows), STC).most_bytes == MODEL


@pytest.mark.parametrize("up", [MODEL - TAIL - 1, MODEL + 1])
def test_a_tail_that_is_none_tells_nothing(up: int) -> None:
    recorded = recorded_of([(0, Status.OK, PARAMETERS, up, MODEL)] * 3)
    assert downloads_of(recorded, DENSE_RUN).most_bytes == 16 + 8 * PARAMETERS + MODEL


def test_under_masks_bytes_do_not_follow_from_counts() -> None:
    pruning = ["pruning.method=prunefl", *DENSE_RUN]
    recorded = recorded_of([(0, Status.OK, PARAMETERS, MODEL, MODEL)] * 3)
    downloads = downloads_of(recorded, pruning)
    assert whole(downloads, [0], [3], [False]) == [(16 + 8 * PARAMETERS + MODEL, False)]


def test_samples_of_a_round_are_those_of_its_steps() -> None:
    """Of clients with 5 to 40 samples; those with masks of their own process more where they have trained."""
    recorded = recorded_of([(0, Status.OK, 1, 1, 1)] * 4)
    recorded.clients["samples"] = [5, 0, 16, 3]
    plain = loads("", [f"clients.count={CLIENTS}", "training.batch_size=16", "training.local_steps=2"])
    assert whole_samples(recorded, plain).tolist() == [10, 20, 32, 32]
    epochs = loads("", [f"clients.count={CLIENTS}", "training.batch_size=16", "training.local_epochs=3"])
    assert whole_samples(recorded, epochs).tolist() == [15, 30, 60, 120]
    own = ["pruning.method=feddst", "pruning.target_density=0.4"]
    masks = loads("", [f"clients.count={CLIENTS}", "training.batch_size=16", "training.local_steps=2", *own])
    assert whole_samples(recorded, masks).tolist() == [5, 20, 16, 3]
    others = loads("", ["clients.count=7"])
    assert whole_samples(recorded, others).tolist() == [5, 0, 16, 3]
