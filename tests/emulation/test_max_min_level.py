"""Which transfers are below the level of a link, and where it is, by hand."""

from math import inf

import pytest

from fedmpi.emulation.max_min_level import ENDED, OWN, SHARED, MaxMinLevel, Transfer


def at_level(level: MaxMinLevel, *wanted: tuple[float, int]) -> list[Transfer]:
    """Transfers that want so many bytes/s, each of so many equal ones, all at the level."""
    transfers = []
    for number, (own, weight) in enumerate(wanted):
        units = int(own * level.units_per_rate)
        transfers.append(Transfer(number, 100.0, weight, iter(()), 100.0, 0.0, own=own, units=units))
        transfers[-1].mode = SHARED
        level.sharing += weight
        level.above.append((units, number))
    level.above.sort()
    return transfers


def modes(transfers: list[Transfer]) -> list[int]:
    return [transfer.mode for transfer in transfers]


def test_who_wants_little_gets_it_and_others_share_the_rest() -> None:
    """Of 12, 2 go to the slowest; 5 are left for each of the two others, of which one wants just that."""
    level = MaxMinLevel(12.0)
    transfers = at_level(level, (2.0, 1), (5.0, 1), (9.0, 1))
    before: dict[int, int] = {}
    level.cross(transfers, before)
    assert modes(transfers) == [OWN, OWN, SHARED]
    assert before == {0: SHARED, 1: SHARED}
    level.settle(3.0, 7.0)
    assert (level.rate, level.since_s, level.moved, level.sharing) == (5.0, 3.0, 7.0, 1)
    assert level.moved_at(4.5) == 7.0 + 1.5 * 5.0


def test_equal_transfers_count_as_often_as_they_are() -> None:
    level = MaxMinLevel(12.0)
    transfers = at_level(level, (2.0, 3), (9.0, 4))
    level.cross(transfers, {})
    level.settle(0.0, 0.0)
    assert modes(transfers) == [SHARED, SHARED]
    assert level.rate == pytest.approx(12 / 7, rel=1e-15)
    level.leave(transfers[1])
    before: dict[int, int] = {}
    level.cross(transfers, before)
    level.settle(1.0, 0.0)
    assert (modes(transfers), before, level.rate) == ([OWN, ENDED], {0: SHARED}, inf)
    assert level.own_units == 6 * level.units_per_rate
    assert level.moved_at(5.0) == 0.0


def test_who_moves_too_fast_for_a_fuller_link_comes_down_to_the_level() -> None:
    level = MaxMinLevel(12.0)
    transfers = at_level(level, (4.0, 1), (8.0, 1))
    level.cross(transfers, {})
    assert modes(transfers) == [OWN, OWN]
    transfers += at_level(level, (6.0, 1))
    transfers[2].number = 2
    level.above = [(transfers[2].units, 2)]
    before: dict[int, int] = {}
    level.cross(transfers, before)
    level.settle(0.0, 0.0)
    assert (modes(transfers), before, level.rate) == ([OWN, SHARED, SHARED], {1: OWN}, 4.0)


def test_a_level_that_stays_keeps_what_has_moved() -> None:
    level = MaxMinLevel(12.0)
    transfers = at_level(level, (9.0, 1), (9.0, 1))
    level.cross(transfers, {})
    level.settle(0.0, 0.0)
    level.settle(5.0, 30.0)
    assert (level.rate, level.since_s, level.moved) == (6.0, 0.0, 0.0)
    level.leave(transfers[0])
    level.cross(transfers, {})
    assert level.own_units == 9 * level.units_per_rate


def test_a_link_without_a_limit_is_never_full() -> None:
    level = MaxMinLevel(inf)
    transfers = at_level(level, *[(1e12, 1)] * 3)
    level.cross(transfers, {})
    assert modes(transfers) == [OWN] * 3
