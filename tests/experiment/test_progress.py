import io
import re
from math import nan

import numpy as np
import pytest

from fedmpi.experiment import progress
from fedmpi.experiment.progress import TERMINAL_VARIABLE, Progress, fitted

DATE = "2026-01-02 03:04:05  "
BOTH = ("k", "density")


class Clock:
    """Host time that moves when asked to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def strftime(self, form: str) -> str:
        assert form == "%Y-%m-%d %H:%M:%S"
        return DATE.strip()


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _no_terminal_of_the_tests(monkeypatch):
    monkeypatch.delenv(TERMINAL_VARIABLE, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def row(index: int, accuracy: float = nan) -> dict[str, float]:
    return {
        "round": index,
        "test_accuracy": accuracy,
        "train_loss": 0.25,
        "end_s": 90.0 * (index + 1),
        "k": 70,
        "density": 0.5,
    }


def logged(stream: io.StringIO) -> list[str]:
    """The lines of a log without their dates."""
    lines = stream.getvalue().splitlines()
    assert all(line.startswith(DATE) for line in lines)
    return [line.removeprefix(DATE) for line in lines]


def shown(stream: io.StringIO) -> list[str]:
    """What stood in the lines of a terminal, rewritten ones included, without control codes."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", stream.getvalue())
    return [line for line in re.split(r"[\r\n]", text) if line]


def test_a_log_has_the_first_round_evaluations_and_the_last(clock):
    stream = io.StringIO()
    progress = Progress(10, BOTH, stream=stream)
    progress.header(["what", "where"])
    for index in range(10):
        clock.now += 2.0
        progress.update(row(index, 0.1 * index if index % 4 == 3 else nan))
    progress.close("so it was", "done")
    rest = "train loss 0.2500  k 70 entries  density 0.500"
    assert logged(stream) == [
        "what",
        "where",
        f"round 1/10  emulated 1 min 30 s  {rest}  ETA 18.0 s",
        f"round 4/10  accuracy 0.3000  emulated 6 min 00 s  {rest}  ETA 12.0 s",
        f"round 8/10  accuracy 0.7000  emulated 12 min 00 s  {rest}  ETA 4.0 s",
        f"round 10/10  accuracy 0.7000  emulated 15 min 00 s  {rest}",
        "so it was",
        "done",
    ]


@pytest.mark.parametrize("varying", [(), ("k",), ("density",)])
def test_what_does_not_vary_is_not_told(clock, varying):
    stream = io.StringIO()
    Progress(1, varying, stream=stream).update(row(0))
    (line,) = logged(stream)
    assert ("k 70 entries" in line) == ("k" in varying)
    assert ("density 0.500" in line) == ("density" in varying)


def test_a_log_has_at_most_about_a_line_a_second(clock):
    stream = io.StringIO()
    progress = Progress(100, stream=stream)
    for index in range(99):
        clock.now += 0.25
        progress.update(row(index, 0.5))
    rounds = [int(line.split()[1].partition("/")[0]) for line in logged(stream)]
    assert rounds == list(range(1, 100, 4))


def test_a_long_silence_ends_without_an_evaluation(clock):
    stream = io.StringIO()
    progress = Progress(1000, stream=stream)
    for index in range(10):
        clock.now += 20.0
        progress.update(row(index))
    assert [line.split()[1] for line in logged(stream)] == ["1/1000", "4/1000", "7/1000", "10/1000"]


@pytest.mark.usefixtures("clock")
def test_the_last_round_of_a_run_that_stops_early_is_told():
    stream = io.StringIO()
    progress = Progress(100, stream=stream)
    progress.update(row(0, 0.1))
    progress.update(row(1, 0.9))
    progress.close()
    lines = logged(stream)
    assert [line.split()[1] for line in lines] == ["1/100", "2/100"]
    assert "accuracy 0.9000" in lines[-1]


@pytest.mark.usefixtures("clock")
def test_nothing_is_told_twice():
    stream = io.StringIO()
    progress = Progress(1, stream=stream)
    progress.update(row(0, 0.1))
    progress.close()
    progress.close()
    assert stream.getvalue().count("\n") == 1


def test_the_pace_of_a_resumed_run_is_that_since_it_was_resumed(clock):
    stream = io.StringIO()
    progress = Progress(100, stream=stream)
    progress.update(row(89))
    clock.now += 3.0
    progress.update(row(90, 0.1))
    assert logged(stream)[-1].endswith("ETA 27.0 s")


def test_a_terminal_has_one_rewritten_line_and_messages_stay(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    stream, warnings = Terminal(), io.StringIO()
    progress = Progress(3, BOTH, stream=stream, warnings=warnings)
    progress.header(["what was typed stands above"])
    progress.update(row(0, 0.25))
    progress.update(row(1))
    clock.now += 0.5
    progress.message("hello")
    progress.warn("careful")
    progress.update(row(2, 0.5))
    progress.close("done")
    lines = shown(stream)
    assert [line for line in lines if "round" not in line] == ["hello", "done"]
    assert all("round" in line and "ETA" in line for line in lines[: lines.index("hello")])
    assert lines[-2].endswith("round 3/3  accuracy 0.5000  emulated 4 min 30 s")
    assert all(len(line) < 60 for line in lines)
    assert stream.getvalue().count("\n") == 3
    assert warnings.getvalue() == "fedmpi: warning: careful\n"


@pytest.mark.usefixtures("clock")
def test_a_wide_terminal_has_a_bar_whose_length_is_what_is_done(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    Progress(4, stream=stream).update(row(0))
    (line,) = shown(stream)
    bar, _, rest = line.partition("  ")
    assert rest.startswith("round 1/4  emulated")
    assert len(bar) == 99 - 2 - len(rest)
    done = re.search(r"\x1b\[[0-9;]*m(━+)", stream.getvalue())
    assert done is not None
    assert len(done[1]) == len(bar) // 4


@pytest.mark.usefixtures("clock")
def test_a_pipe_that_ends_at_a_terminal_is_one(monkeypatch):
    monkeypatch.setenv(TERMINAL_VARIABLE, "41")
    monkeypatch.setenv("COLUMNS", "200")
    stream = io.StringIO()
    progress = Progress(1000, BOTH, stream=stream)
    progress.update(row(0, 0.5))
    progress.close()
    assert shown(stream) == ["round 1/1000  accuracy 0.5000  ETA 0.0 s"]


@pytest.mark.usefixtures("clock")
def test_a_terminal_that_cannot_rewrite_a_line_gets_a_log(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    Progress(2, stream=stream).update(row(0, 0.5))
    assert len(logged(stream)) == 1


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (80, "round 1  accuracy 0.5  emulated 3 s  ETA 4 s"),
        (44, "round 1  accuracy 0.5  emulated 3 s  ETA 4 s"),
        (43, "round 1  accuracy 0.5  ETA 4 s"),
        (30, "round 1  accuracy 0.5  ETA 4 s"),
        (29, "round 1  ETA 4 s"),
        (10, "round 1  E"),
    ],
)
def test_a_line_fits_and_keeps_what_matters_most(columns, line):
    assert fitted(["round 1", "accuracy 0.5", "emulated 3 s", "ETA 4 s"], columns) == line


def test_quiet_leaves_warnings_and_silent_nothing(clock):
    for quiet, silent in ((True, False), (True, True), (False, True)):
        stream, warnings = io.StringIO(), io.StringIO()
        progress = Progress(2, quiet=quiet, silent=silent, stream=stream, warnings=warnings)
        progress.header(["what"])
        progress.initial(1, 2, {"train_loss": 0.5, "density": 0.25}, 3.0)
        progress.update(row(0, 0.1))
        progress.message("hello")
        progress.warn("careful")
        progress.update(row(1, 0.1))
        progress.close("done")
        assert not stream.getvalue()
        assert warnings.getvalue() == ("" if silent else "fedmpi: warning: careful\n")


@pytest.mark.usefixtures("clock")
def test_a_record_of_the_trace_is_taken_as_it_is():
    kinds = [(name, "<f8") for name in ("test_accuracy", "train_loss", "end_s", "density")]
    table = np.array([(0, 7, 0.5, 0.75, 3.25, 1.0)], dtype=[("round", "<i8"), ("k", "<i8"), *kinds])
    stream = io.StringIO()
    Progress(1, stream=stream).update(table[0])
    assert logged(stream) == ["round 1/1  accuracy 0.5000  emulated 3.2 s  train loss 0.7500"]


def test_initial_pruning_has_a_pace_of_its_own(clock):
    stream = io.StringIO()
    progress = Progress(4, BOTH, stream=stream)
    for index in range(30):
        clock.now += 1.0
        progress.initial(index + 1, 1000, {"train_loss": 0.5, "density": 0.25}, 3.0 * (index + 1))
    clock.now += 2.0
    progress.update(row(0, 0.1))
    assert logged(stream) == [
        "initial pruning 1/1000  density 0.250  emulated 3.0 s  train loss 0.5000  ETA at most 16 min 39 s",
        "initial pruning 11/1000  density 0.250  emulated 33.0 s  train loss 0.5000  ETA at most 16 min 29 s",
        "initial pruning 21/1000  density 0.250  emulated 1 min 03 s  train loss 0.5000  ETA at most 16 min 19 s",
        "round 1/4  accuracy 0.1000  emulated 1 min 30 s  train loss 0.2500  k 70 entries  density 0.500  ETA 6.0 s",
    ]
