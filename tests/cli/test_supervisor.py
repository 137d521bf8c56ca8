"""The launcher as a child: what it is sent and when, which exit code comes back, and that it never outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from math import inf
from pathlib import Path

import pytest

from fedmpi.cli import supervisor
from fedmpi.cli.supervisor import STARTED_VARIABLE, announce_start, supervise
from fedmpi.mpi.stop_signals import SignalFlag

TERM, USR2, KILL = signal.SIGTERM, signal.SIGUSR2, signal.SIGKILL


def run(script: str, ask: signal.Signals = TERM, flag: SignalFlag | None = None) -> int:
    return supervise(["bash", "-c", script], ask, SignalFlag() if flag is None else flag)


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 75", 75), ("exit 2", 2), ("exit 9", 1), ("exit 143", 143), ("kill -9 $$", 137)],
)
def test_exit_codes_come_back(script: str, code: int) -> None:
    assert run(script) == code


def test_a_session_and_a_standard_input_of_its_own() -> None:
    assert run("[ $(ps -o sid= -p $$) = $$ ] && ! read") == 0


@pytest.mark.parametrize("ask", [TERM, USR2])
def test_it_is_asked_once_in_the_form_it_passes_on_and_not_before_the_start(
    monkeypatch, tmp_path: Path, ask: signal.Signals
) -> None:
    monkeypatch.setattr(supervisor, "_START_S", inf)
    script = f"""
        trap 'echo asked >>{tmp_path}/asked; [ -e ${STARTED_VARIABLE} ] || exit 9; sleep 0.5; exit 75' {int(ask)}
        sleep 0.5; touch ${STARTED_VARIABLE}; while :; do sleep 0.05; done
    """
    flag = SignalFlag()
    flag.receive(signal.SIGHUP, 0.0)
    assert run(script, ask, flag) == 75
    assert (tmp_path / "asked").read_text() == "asked\n"
    assert flag.ends_process


def test_ranks_of_which_no_sign_is_seen_are_asked_after_a_while(monkeypatch) -> None:
    monkeypatch.setattr(supervisor, "_START_S", 3.0)
    flag = SignalFlag()
    flag.receive(signal.SIGINT, 0.0)
    assert run("trap 'exit 75' TERM; while :; do sleep 0.05; done", TERM, flag) == 75


@pytest.mark.parametrize(("ask", "end"), [(TERM, KILL), (USR2, TERM)])
def test_insisting_ends_it_in_the_way_that_ends_its_ranks(
    tmp_path: Path, ask: signal.Signals, end: signal.Signals
) -> None:
    script = (
        f"trap 'touch {tmp_path}/term; exit 1' TERM; touch {tmp_path}/ready; while :; do sleep 0.05; done"
    )
    flag = SignalFlag()
    flag.receive(signal.SIGINT, 0.0)

    def insist() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.05)
        flag.receive(signal.SIGINT, 5.0)

    thread = threading.Thread(target=insist)
    thread.start()
    assert run(script, ask, flag) == 128 + signal.SIGINT
    thread.join()
    assert (tmp_path / "term").exists() == (end == TERM)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_it_ends_with_its_supervisor(tmp_path: Path) -> None:
    program = f"""
from fedmpi.cli.supervisor import supervise
from fedmpi.mpi.stop_signals import SignalFlag
import signal
supervise(["bash", "-c", "echo $$ >{tmp_path}/pid; exec sleep 600"], signal.SIGTERM, SignalFlag())
"""
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    child = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_start_is_announced_only_where_the_supervisor_sees_it(tmp_path: Path) -> None:
    announce_start({})
    announce_start({STARTED_VARIABLE: str(tmp_path / "on another machine" / "started")})
    announce_start({STARTED_VARIABLE: str(tmp_path / "started")})
    assert os.listdir(tmp_path) == ["started"]
