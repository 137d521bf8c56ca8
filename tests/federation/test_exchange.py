"""Who took part in a round, and on which rank."""

import numpy as np

from fedmpi.federation.exchange import Roster


def test_ranks_have_the_accepted_and_the_untrained_among_those_that_they_were_dealt() -> None:
    clients, ones = np.array([1, 4, 6, 9]), np.ones(4, np.int64)
    accepted, trained = np.array([True, False, True, True]), np.array([True, True, False, True])
    dealt = [np.array([4, 9]), np.array([1, 6]), np.array([], np.int64)]
    roster = Roster(clients, accepted, ones, ones, 1.0, dealt, trained)
    assert roster.accepted_clients.tolist() == [1, 6, 9]
    assert [roster.accepted_of(rank).tolist() for rank in range(3)] == [[9], [1, 6], []]
    assert [roster.untrained_of(rank).tolist() for rank in range(3)] == [[], [6], []]
