import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.federation.downlink import Downlink
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
    account = Downlink(CLIENTS, DIMENSION, TAIL, "auto")
    missed: list[set[int] | None] = [None] * CLIENTS
    for number, (changed, here) in enumerate(rounds):
        if number == restart_at:
            again = Downlink(CLIENTS, DIMENSION, TAIL, "auto")
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
