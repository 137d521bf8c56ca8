import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.federation.downlink import Downlink
from fedmpi.sparsification import WireCodec
from fedmpi.sparsification.wire import message_bytes

CLIENTS, DIMENSION, TAIL = 4, 40, 3
MODEL = message_bytes("dense", DIMENSION, DIMENSION) + 4 * TAIL


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.sets(st.integers(0, DIMENSION - 1))), st.sets(st.integers(0, CLIENTS - 1))
        ),
        max_size=12,
    ),
    st.integers(0, 12),
)
def test_clients_pay_for_the_coordinates_that_they_miss(rounds, restart_at: int) -> None:
    """Against a plain account: which coordinates changed since the client was last here."""
    account = Downlink(CLIENTS, DIMENSION, TAIL, WireCodec("auto"))
    missed: list[set[int] | None] = [None] * CLIENTS
    for number, (changed, here) in enumerate(rounds):
        if number == restart_at:
            again = Downlink(CLIENTS, DIMENSION, TAIL, WireCodec("auto"))
            again.restore(account.version, {name: array.copy() for name, array in account.state().items()})
            account = again
        clients = np.array(sorted(here), dtype=np.int64)
        versions = account.client_version.copy()
        for client, found in zip(clients.tolist(), account.download_bytes(clients).tolist(), strict=True):
            gone = missed[client]
            if gone is None:
                expected = MODEL
            elif versions[client] == account.version:
                expected = message_bytes("coo", 0, DIMENSION)
            else:
                expected = min(MODEL, message_bytes("auto", len(gone), DIMENSION) + 4 * TAIL)
            assert found == expected
            missed[client] = set()
        account.delivered(clients)
        account.advance(None if changed is None else np.array(sorted(changed), dtype=np.int32))
        everything = set(range(DIMENSION)) if changed is None else changed
        missed = [None if gone is None else gone | everything for gone in missed]


def test_who_missed_one_change_gets_it_as_it_was_sent_and_who_missed_more_gets_weights() -> None:
    account = Downlink(2, 1000, 0, WireCodec("coo", "float16"))
    account.delivered(np.array([0, 1]))
    account.advance(np.arange(10, dtype=np.int32))
    assert account.download_bytes(np.array([0, 1])).tolist() == [16 + 60, 16 + 60]
    account.delivered(np.array([0]))
    account.advance(np.arange(5, 15, dtype=np.int32))
    assert account.download_bytes(np.array([0, 1])).tolist() == [16 + 60, 16 + 8 * 15]


def test_messages_that_differ_in_length_are_sent_again_one_by_one() -> None:
    """As they were, up to what the model takes; who has the present version asks in vain, as ever."""
    account = Downlink(2, 1000, 0, WireCodec("auto"), resends=True)
    account.delivered(np.array([0, 1]))
    account.advance(np.arange(10, dtype=np.int32), message_bytes=31)
    account.delivered(np.array([0]))
    account.advance(np.arange(10, dtype=np.int32), message_bytes=100)
    assert account.download_bytes(np.array([0, 1])).tolist() == [100, 131]
    again = Downlink(2, 1000, 0, WireCodec("auto"), resends=True)
    again.restore(account.version, {name: array.copy() for name, array in account.state().items()})
    again.advance(None, message_bytes=3900)
    again.delivered(np.array([0]))
    assert again.download_bytes(np.array([0, 1])).tolist() == [16, 16 + 4 * 1000]
    assert "message_bytes" not in Downlink(2, 1000, 0, WireCodec("auto")).state()


def test_positions_that_both_sides_know_are_not_charged() -> None:
    account = Downlink(1, 1000, 0, WireCodec("values"))
    account.delivered(np.array([0]))
    account.advance(np.arange(10, dtype=np.int32))
    account.advance(np.arange(20, 30, dtype=np.int32))
    assert account.download_bytes(np.array([0])).tolist() == [16 + 4 * 20]


@given(
    st.lists(
        st.tuples(
            st.sets(st.integers(0, DIMENSION - 1)),
            st.one_of(st.none(), st.lists(st.booleans(), min_size=DIMENSION, max_size=DIMENSION)),
            st.sets(st.integers(0, CLIENTS - 1)),
        ),
        max_size=12,
    ),
    st.integers(0, 12),
)
def test_clients_pay_for_masks_and_not_for_what_is_pruned(rounds, restart_at: int) -> None:
    """Against a plain account: active coordinates that changed, or were pruned on the way, since it was here."""
    account = Downlink(CLIENTS, DIMENSION, TAIL, WireCodec("auto"))
    mask_bytes = 21
    active = np.ones(DIMENSION, np.bool_)
    stale: list[set[int] | None] = [None] * CLIENTS
    has_mask = [True] * CLIENTS
    for number, (changed, mask, here) in enumerate(rounds):
        if number == restart_at:
            again = Downlink(CLIENTS, DIMENSION, TAIL, WireCodec("auto"))
            state = {name: array.copy() for name, array in account.state().items()}
            again.set_mask(active, int(active.sum()), mask_bytes)
            again.restore(account.version, state)
            account = again
        clients = np.array(sorted(here), dtype=np.int64)
        versions = account.client_version.copy()
        count = int(active.sum())
        whole = 16 + 4 * count + 4 * TAIL
        for client, found in zip(clients.tolist(), account.download_bytes(clients).tolist(), strict=True):
            gone = stale[client]
            with_mask = 0 if has_mask[client] else mask_bytes
            if gone is None:
                expected = whole + with_mask
            elif versions[client] == account.version:
                expected = message_bytes("coo", 0, count)
            else:
                missed = sum(active[i] for i in gone)
                expected = min(whole, message_bytes("auto", missed, count) + 4 * TAIL) + with_mask
            assert found == expected
            stale[client], has_mask[client] = set(), True
        account.delivered(clients)
        events = set(changed)  # also of what is pruned, as where clients vote for a mask that does not come
        account.advance(np.array(sorted(changed), dtype=np.int32))
        if mask is not None:
            events |= set(np.flatnonzero(active & ~np.array(mask)).tolist())
            active = np.array(mask)
            account.new_mask(active, int(active.sum()), mask_bytes)
            has_mask = [False] * CLIENTS
        for gone in stale:
            if gone is not None:
                gone |= events


def test_who_has_all_but_the_newest_mask_downloads_that_alone() -> None:
    """As after a round in which losses were measured, for which the update came down at once."""
    account = Downlink(2, 1000, 7, WireCodec("dense"))
    account.delivered(np.array([0, 1]))
    account.advance(None)
    account.delivered(np.array([0]))
    account.new_mask(np.arange(1000) % 2 == 0, 500, 141)
    missed = 16 + 4 * 500 + 4 * 7
    assert account.download_bytes(np.array([0, 1])).tolist() == [16 + 141, missed + 141]
    account.advance(None)
    assert account.download_bytes(np.array([0])).tolist() == [missed + 141]


def test_a_mask_that_is_the_first_change_of_all_is_downloaded_once() -> None:
    """By who has the initial model, in a message of no entries, and by who has nothing, with the model."""
    downlink = Downlink(3, 10, 0, WireCodec("dense"))
    downlink.delivered(np.array([0, 1]))
    downlink.new_mask(np.arange(10) < 8, 8, 17)
    assert downlink.download_bytes(np.arange(3)).tolist() == [16 + 17, 16 + 17, 16 + 4 * 8 + 17]
    downlink.delivered(np.array([1, 2]))
    assert downlink.download_bytes(np.arange(3)).tolist() == [16 + 17, 16, 16]
