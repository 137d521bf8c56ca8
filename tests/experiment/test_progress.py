import io
from math import nan

import numpy as np
import pytest

from fedmpi.experiment import progress
from fedmpi.experiment.progress import Progress, duration


class Clock:
    """Host time that moves when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def row(index: int, accuracy: float = nan) -> dict[str, float]:
    return {"round": index, "test_accuracy": accuracy, "end_s": 90.0 * (index + 1), "k": 70, "density": 0.5}


def test_plain_lines_tell_the_first_round_evaluations_and_the_last(clock):
    stream = io.StringIO()
    told = Progress(10, stream=stream)
    for index in range(10):
        clock.now += 2.0
        told.update(row(index, 0.1 * index if index % 4 == 3 else nan))
    told.close("done")
    assert stream.getvalue().splitlines() == [
        "round 1/10  emulated 1 min 30 s  k 70  density 0.500  ETA 18.0 s",
        "round 4/10  accuracy 0.3000  emulated 6 min 00 s  k 70  density 0.500  ETA 12.0 s",
        "round 8/10  accuracy 0.7000  emulated 12 min 00 s  k 70  density 0.500  ETA 4.0 s",
        "round 10/10  accuracy 0.7000  emulated 15 min 00 s  k 70  density 0.500",
        "done",
    ]


def test_plain_lines_come_at_most_about_once_a_second(clock):
    stream = io.StringIO()
    told = Progress(100, stream=stream)
    for index in range(99):
        clock.now += 0.25
        told.update(row(index, 0.5))
    rounds = [int(line.split()[1].partition("/")[0]) for line in stream.getvalue().splitlines()]
    assert rounds == list(range(1, 100, 4))


def test_a_long_silence_ends_without_an_evaluation(clock):
    stream = io.StringIO()
    told = Progress(1000, stream=stream)
    for index in range(10):
        clock.now += 20.0
        told.update(row(index))
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == [
        "1/1000",
        "4/1000",
        "7/1000",
        "10/1000",
    ]


@pytest.mark.usefixtures("clock")
def test_the_last_round_of_a_run_that_stops_early_is_told():
    stream = io.StringIO()
    told = Progress(100, stream=stream)
    told.update(row(0, 0.1))
    told.update(row(1, 0.9))
    told.close()
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/100", "2/100"]
    assert "accuracy 0.9000" in lines[-1]


@pytest.mark.usefixtures("clock")
def test_nothing_is_told_twice():
    stream = io.StringIO()
    told = Progress(1, stream=stream)
    told.update(row(0, 0.1))
    told.close()
    assert stream.getvalue().count("\n") == 1


def test_the_pace_of_a_resumed_run_is_that_since_it_was_resumed(clock):
    stream = io.StringIO()
    told = Progress(100, stream=stream)
    told.update(row(89))
    clock.now += 3.0
    told.update(row(90, 0.1))
    assert stream.getvalue().splitlines()[-1].endswith("ETA 27.0 s")


def test_a_terminal_has_one_rewritten_line_and_messages_stay(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    told = Progress(3, stream=stream)
    told.update(row(0, 0.25))
    told.update(row(1))
    clock.now += 0.5
    told.message("hello")
    told.update(row(2, 0.5))
    told.close("done")
    written = stream.getvalue()
    before, after = written.split("\r\x1b[Khello\n")
    assert before.startswith("\rround 1/3  accuracy 0.2500")
    assert "\n" not in before
    assert after.endswith("\ndone\n")
    assert after.splitlines()[-2].rpartition("\r")[2].startswith("round 3/3  accuracy 0.5000")
    assert all(len(line.replace("\x1b[K", "")) < 60 for line in written.replace("\n", "\r").split("\r"))


def test_quiet_says_nothing(clock):
    stream = io.StringIO()
    told = Progress(2, quiet=True, stream=stream)
    told.update(row(0, 0.1))
    told.message("hello")
    told.update(row(1, 0.1))
    told.close("done")
    assert not stream.getvalue()


@pytest.mark.usefixtures("clock")
def test_a_record_of_the_trace_is_taken_as_it_is():
    kinds = [("round", "<i8"), ("test_accuracy", "<f8"), ("end_s", "<f8"), ("k", "<i8"), ("density", "<f8")]
    table = np.array([(0, 0.5, 3.25, 7, 1.0)], dtype=kinds)
    stream = io.StringIO()
    Progress(1, stream=stream).update(table[0])
    assert stream.getvalue() == "round 1/1  accuracy 0.5000  emulated 3.2 s  k 7  density 1.000\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (60.0, "1 min 00 s"),
        (185.4, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7800.0, "2 h 10 min"),
        (86400.0 * 4 + 6 * 3600, "4 d 06 h"),
    ],
)
def test_durations_have_two_units(seconds, text):
    assert duration(seconds) == text


def test_initial_pruning_is_told_now_and_then_and_does_not_slow_the_rounds(clock):
    stream = io.StringIO()
    told = Progress(4, stream=stream)
    for index in range(30):
        clock.now += 1.0
        told.initial(index + 1, 1000, {"train_loss": 0.5, "density": 0.25}, 3.0 * (index + 1))
    clock.now += 2.0
    told.update(row(0, 0.1))
    assert stream.getvalue().splitlines() == [
        "initial pruning 1/1000  loss 0.5000  emulated 3.0 s  density 0.250",
        "initial pruning 11/1000  loss 0.5000  emulated 33.0 s  density 0.250",
        "initial pruning 21/1000  loss 0.5000  emulated 1 min 03 s  density 0.250",
        "round 1/4  accuracy 0.1000  emulated 1 min 30 s  k 70  density 0.500  ETA 6.0 s",
    ]
