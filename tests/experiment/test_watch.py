"""Rejected updates and missed moments are warned of once, and counted over the whole run."""

import numpy as np
import pytest

from fedmpi.experiment.watch import Watch

FINITE, NOT = False, True
NOTHING = ("", {})


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def watch(said: list[str]) -> Watch:
    return Watch(said.append)


def test_the_first_rejection_and_the_first_round_without_any_update_are_warned_of(watch: Watch, said) -> None:
    watch.judged(0, np.array([FINITE, FINITE, FINITE]))
    assert said == []
    watch.judged(1, np.array([FINITE, NOT, FINITE]))
    watch.judged(2, np.array([NOT, NOT, FINITE]))
    assert len(said) == 1
    assert said[0].startswith("round 1: 1 of 3 updates are not finite and were rejected")
    watch.judged(3, np.array([NOT, NOT, NOT]))
    watch.judged(4, np.array([NOT, NOT, NOT]))
    watch.judged(5, np.array([NOT, FINITE, FINITE]))
    assert len(said) == 2
    assert said[1].startswith("round 3: all 3 updates are not finite and were rejected")
    assert watch.summary() == ["10 of 18 updates were not finite and were rejected"]


def test_a_run_that_rejects_all_from_the_start_is_warned_of_once(watch: Watch, said) -> None:
    watch.judged(0, np.array([NOT, NOT]))
    watch.judged(1, np.array([NOT, FINITE]))
    assert len(said) == 1
    assert "all 2 updates" in said[0]


def test_a_resumed_run_counts_from_its_beginning(said) -> None:
    watch = Watch(said.append, updates=1000, rejected=4)
    watch.judged(7, np.array([FINITE, FINITE]))
    assert watch.summary() == ["4 of 1,002 updates were not finite and were rejected"]
    assert said == []


def test_a_run_without_faults_says_nothing(watch: Watch, said) -> None:
    watch.judged(0, np.array([FINITE]))
    assert watch.timed("round 0", "messages were", 1.0, np.array([0.0])) == NOTHING
    assert watch.timed("round 1", "messages were", 1.0, np.array([np.nan])) == NOTHING
    assert watch.summary() == []
    assert said == []


def test_moments_may_be_missed_by_a_millisecond_or_a_percent(watch: Watch, said) -> None:
    assert watch.timed("round 0", "messages were", 0.01, np.array([0.001, 0.0])) == NOTHING
    assert watch.timed("round 1", "messages were", 2.0, np.array([0.02, 0.01])) == NOTHING
    assert said == []
    detail, facts = watch.timed("round 2", "messages were", 2.0, np.array([0.0201, 0.5, 0.01]))
    assert detail == "2 of 3 messages were too late, the worst by 0.5 s of host time"
    assert facts == {"late": 2, "of": 3, "worst_host_s": 0.5, "training_too_long": 0}
    assert len(said) == 1
    assert said[0].startswith(f"emulation was not honoured in round 2: {detail}")
    assert watch.timed("round 3", "messages were", 0.01, np.array([0.0011, np.nan])) != NOTHING
    assert len(said) == 1
    assert watch.summary() == ["emulation was not honoured 3 of 8 times, the worst by 0.5 s of host time"]


def test_training_that_took_too_long_is_named(watch: Watch) -> None:
    detail, facts = watch.timed(
        "round 0", "messages were", 0.1, np.array([0.2, 0.3, 0.0]), np.array([0.1, 0.001, 0.0])
    )
    assert detail.endswith("; training took too long for 1 of them")
    assert facts["training_too_long"] == 1


def test_each_local_round_has_its_own_time(watch: Watch) -> None:
    detail, _ = watch.timed("initial pruning", "rounds", np.array([10.0, 0.1]), np.array([0.05, 0.05]))
    assert detail.startswith("1 of 2 rounds too late")
