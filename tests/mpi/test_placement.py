import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config import ConfigError
from fedmpi.mpi.placement import Placement, home_blocks, most_sharing


@given(st.integers(1, 200), st.integers(1, 60), st.booleans())
def test_home_blocks_cover_all_clients_evenly(clients: int, ranks: int, server_trains: bool) -> None:
    first = 0 if ranks == 1 or server_trains else 1
    if ranks - first > clients:
        with pytest.raises(ValueError, match=f"at most {clients + first}"):
            home_blocks(clients, ranks, server_trains)
        return
    blocks = home_blocks(clients, ranks, server_trains)
    assert len(blocks) == ranks
    assert [client for block in blocks for client in block] == list(range(clients))
    sizes = [len(block) for block in blocks[first:]]
    assert max(sizes) - min(sizes) <= 1
    assert first == 0 or len(blocks[0]) == 0


@given(st.data())
def test_deal_gives_each_participant_to_one_rank_of_its_group(data: st.DataObject) -> None:
    clients = data.draw(st.integers(1, 40))
    ranks = data.draw(st.integers(1, clients + 1))
    blocks = home_blocks(clients, ranks, False)
    colours = data.draw(st.lists(st.integers(0, 3), min_size=ranks, max_size=ranks))
    groups = tuple(tuple(r for r in range(ranks) if colours[r] == c) for c in dict.fromkeys(colours))
    placement = Placement(clients, tuple(blocks), groups)
    chosen = data.draw(st.sets(st.integers(0, clients - 1), min_size=1))
    participants = np.array(sorted(chosen))
    dealt = placement.deal(participants)
    assert sorted(int(c) for share in dealt for c in share) == sorted(chosen)
    for rank, share in enumerate(dealt):
        group = placement.group_of(rank)
        assert set(share.tolist()) <= set(placement.clients_of_group(group).tolist())
        peers = [len(dealt[r]) for r in groups[group] if len(blocks[r])]
        assert not len(share) or max(peers) - min(peers) <= 1


@pytest.mark.parametrize(("value", "most"), [(None, None), ("", None), ("0", 1), ("1", 1), (" 4 ", 4)])
def test_how_many_ranks_share_memory(value: str | None, most: int | None) -> None:
    assert most_sharing({} if value is None else {"FEDMPI_SHARED_MEMORY": value}) == most


@pytest.mark.parametrize("value", ["no", "-1", "1.5", "²", "1" + "0" * 9, "1" + "0" * 30])
def test_what_is_no_number_of_ranks_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=f"FEDMPI_SHARED_MEMORY: found '{value}'; allowed: 0 "):
        most_sharing({"FEDMPI_SHARED_MEMORY": value})
