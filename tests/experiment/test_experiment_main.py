"""How a run begins and ends: first masks, what fails on the way, and what the trace and the exit code say of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmpi import checkpoint, trace
from fedmpi.checkpoint import CheckpointError
from fedmpi.cli import main as cli
from fedmpi.experiment import main as experiment
from fedmpi.experiment.recording import Recorder
from fedmpi.federation.round_loop import RoundLoop
from fedmpi.mpi.guards import LaunchError
from fedmpi.mpi.stop_signals import SignalFlag
from fedmpi.trace import TraceError

SMALL = ("experiment.rounds=4", "clients.count=3", "model.hidden=[8]")
PRUNED = ("sparsification.method=dense", "k_control.method=fixed", "pruning.target_density=0.3")


def command(folder: Path, *more: str) -> list[str]:
    return ["run", "quickstart", *SMALL, "--output", str(folder), *more]


def run(folder: Path, *more: str) -> int:
    return cli.main(command(folder, "--quiet", *more))


def weights_of(folder: Path) -> np.ndarray:
    found, _ = checkpoint.latest_good(folder / "checkpoint")
    assert found is not None
    return found.server()["weights"]


def failing_in_round(
    monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException, part: Any, name: str
) -> None:
    """Let the call of ``part.name`` in round ``number`` raise ``error``."""
    usual, calls = getattr(part, name), []

    def failing(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == number + 1:
            raise error
        return usual(*given)

    monkeypatch.setattr(part, name, failing)


@pytest.mark.parametrize("error", [TraceError("the trace is full"), OSError("the disk is gone")])
def test_a_run_that_cannot_be_recorded_ends_without_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    failing_in_round(monkeypatch, 2, error, Recorder, "round")
    assert run(tmp_path / "run") == 1
    assert capsys.readouterr().err == f"fedmpi: {error}\n"
    found = trace.read(tmp_path / "run")
    assert found.attributes["status"] == "failed"
    assert found.rounds["round"].tolist() == [0, 1]
    assert not list((tmp_path / "run").glob("checkpoint/round-*"))


def test_state_that_cannot_be_kept_in_a_round_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing_in_round(monkeypatch, 1, CheckpointError("no space left"), RoundLoop, "_round")
    assert run(tmp_path / "run") == 1
    assert capsys.readouterr().err == "fedmpi: no space left\n"
    assert trace.read(tmp_path / "run").attributes["status"] == "failed"


def test_what_nobody_expects_shows_where_it_happened_and_the_trace_says_that_the_run_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing_in_round(monkeypatch, 1, ZeroDivisionError("a bug"), RoundLoop, "_round")
    assert run(tmp_path / "run") == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "ZeroDivisionError: a bug" in said
    assert "rank 0 failed" not in said
    found = trace.read(tmp_path / "run")
    assert found.attributes["status"] == "failed"
    assert found.rounds["round"].tolist() == [0]


def test_code_that_leaves_the_process_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing_in_round(monkeypatch, 0, SystemExit(0), RoundLoop, "_round")
    assert run(tmp_path / "run") == 1
    said = capsys.readouterr().err
    assert said.startswith("fedmpi: rank 0 failed:\nTraceback")
    assert "SystemExit" in said


@pytest.mark.parametrize("reporter", [True, False])
def test_one_process_tells_of_a_launch_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reporter: bool
) -> None:
    def refused(*given: Any) -> None:
        raise LaunchError("another MPI", reporter)

    monkeypatch.setattr(experiment, "check_launch", refused)
    assert run(tmp_path / "run") == 1
    assert capsys.readouterr().err == ("fedmpi: another MPI\n" if reporter else "")
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_to_stop_before_it_begins_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def signalled() -> Iterator[SignalFlag]:
        flag = SignalFlag()
        flag.set = True
        yield flag

    monkeypatch.setattr(experiment.stop_signals, "installed", signalled)
    assert run(tmp_path / "run") == 75
    assert not (tmp_path / "run").exists()


def test_a_resume_without_a_checkpoint_starts_anew_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert cli.main(command(folder, "--resume")) == 0
    assert f"there is no checkpoint in {folder}: starting anew" in capsys.readouterr().out
    assert trace.read(folder).rounds["round"].tolist() == [0, 1, 2, 3]
    assert cli.main(command(folder, "--resume")) == 0
    said = capsys.readouterr().out
    assert "starting anew" not in said
    assert "resuming before round 4" in said


def test_a_first_mask_holds_from_the_first_round_on(tmp_path: Path) -> None:
    feddst = ["pruning.method=feddst", "pruning.options={last_round = 4}"]
    assert run(tmp_path / "run", *PRUNED, *feddst) == 0
    found = trace.read(tmp_path / "run")
    assert found.rounds["density"].iloc[0] == pytest.approx(0.3, abs=0.02)
    active = int(found.rounds["active_parameters"].iloc[0])
    assert found.clients["entries_sent"][found.clients["round"] == 0].tolist() == [active] * 3
    # All download the mask with their first model.
    assert (found.clients["bytes_down"][found.clients["round"] == 0] > 16 + 4 * active).all()


@pytest.mark.parametrize(("method", "same_start"), [("lottery_reinit", True), ("lottery_random", False)])
def test_the_mask_of_a_finished_run_is_taken_with_initial_weights(
    tmp_path: Path, method: str, same_start: bool
) -> None:
    """Its own initial weights, or new ones; with a learning rate of nearly nothing these are seen in the end."""
    still = ("training.learning_rate=1e-30", "sparsification.method=dense", "k_control.method=fixed")
    assert run(tmp_path / "first", *PRUNED, "pruning.method=snip") == 0
    assert run(tmp_path / "unpruned", *still) == 0
    ticket = f"pruning.ticket={tmp_path / 'first'}"
    assert run(tmp_path / "second", *still, f"pruning.method={method}", ticket) == 0
    kept, weights = weights_of(tmp_path / "first") != 0, weights_of(tmp_path / "second")
    assert trace.read(tmp_path / "second").rounds["density"].iloc[0] == pytest.approx(0.3, abs=0.02)
    assert set(np.flatnonzero(weights)) <= set(np.flatnonzero(kept))
    initial = weights_of(tmp_path / "unpruned")
    active = weights != 0
    assert (weights[active] == initial[active]).all() == same_start


def test_a_ticket_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["sparsification.method=dense", "k_control.method=fixed", "pruning.method=lottery_random"]
    assert run(tmp_path / "run", *given, f"pruning.ticket={tmp_path}") == 2
    assert "[pruning] ticket" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "reason"), [((), "all 4 rounds done"), (("experiment.rounds=2",), "all 2")])
def test_the_end_is_said_and_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], reason: str
) -> None:
    assert cli.main(command(tmp_path / "run", *more)) == 0
    said = capsys.readouterr().out
    assert f"completed ({reason}" in said
    found = trace.read(tmp_path / "run")
    last = found.events.iloc[-1]
    assert last["kind"] == "stop"
    assert last["round"] == found.rounds["round"].iloc[-1]
    assert last["time_s"] == found.rounds["end_s"].iloc[-1]
    assert (tmp_path / "run" / "config.toml").read_text() == found.attributes["config_toml"]
