"""What asks a run to stop, and what means now; in real processes, and in how requests are told apart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from math import inf

import pytest

from fedmpi.mpi import stop_signals
from fedmpi.mpi.stop_signals import INSISTS_AFTER_S, STOP_SIGNALS, SignalFlag

INT, TERM, HUP, USR2 = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2


@pytest.mark.parametrize(
    ("received", "insisted"),
    [
        ([(TERM, 0.0)], 0),
        ([(TERM, 0.0), (TERM, 0.1)], 0),
        ([(TERM, 0.0), (TERM, 3.0)], 0),
        ([(TERM, 0.0), (TERM, 3.1)], TERM),
        ([(TERM, 0.0), (TERM, 2.0), (TERM, 3.1)], TERM),  # counted from the first
        ([(HUP, 0.0), (HUP, 2.9)], 0),
        ([(HUP, 0.0), (HUP, 3.1)], HUP),
        ([(INT, 0.0), (INT, 1.0)], 0),
        ([(INT, 0.0), (INT, 1.1)], INT),
        ([(TERM, 0.0), (INT, 1.1)], INT),
        ([(INT, 0.0), (TERM, 1.1)], 0),
        ([(USR2, 0.0), (USR2, 1e6)], 0),
        ([(USR2, 0.0), (TERM, 60.0)], TERM),
        ([(INT, 0.0), (INT, 9.0), (USR2, 10.0)], INT),
    ],
)
def test_a_later_signal_insists_after_the_interval_of_its_kind(
    received: Sequence[tuple[int, float]], insisted: int
) -> None:
    flag = SignalFlag()
    assert not flag.set
    for number, after_s in received:
        flag.receive(number, 100.0 + after_s)
    assert flag.set
    assert flag.insisted == insisted


def test_other_signals_ask_for_nothing() -> None:
    flag = SignalFlag()
    for number in (signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD):
        flag.receive(number, 1.0)
    assert not flag.set


def test_sigusr2_never_insists_and_all_others_do() -> None:
    assert [number for number in STOP_SIGNALS if INSISTS_AFTER_S[number] == inf] == [USR2]


def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with stop_signals.installed() as flag:
        with stop_signals.installed() as same:
            assert same is flag
        assert all(signal.getsignal(number) not in before for number in STOP_SIGNALS)
        os.kill(os.getpid(), USR2)
        deadline = time.monotonic() + 60
        while not flag.set and time.monotonic() < deadline:
            time.sleep(0.01)
        assert flag.set
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
    with stop_signals.installed() as new:
        assert not new.set


def test_a_process_at_its_end_is_not_ended_by_the_double_of_a_signal() -> None:
    wait = "while not flag.set: time.sleep(0.01)\nprint('at its end', flush=True)\ntime.sleep(2)"
    assert end_of(wait, (0.0, TERM), (None, TERM), afterwards="signal.SIG_IGN") == 75
    assert end_of(wait, (0.0, TERM), (None, TERM)) == -TERM


WAITING = """
import signal, sys, time
{before}
from fedmpi.mpi import stop_signals
with stop_signals.installed({afterwards}) as flag:
    print("ready", flush=True)
    {wait}
sys.exit(75 if flag.set else 0)
"""


def end_of(wait: str, *signals: tuple[float | None, int], before: str = "", afterwards: str = "None") -> int:
    """The exit code of a process that gets each signal so many seconds after the one before it.

    None: once it has said that it is at its end.
    """
    program = WAITING.format(before=before, wait=wait, afterwards=afterwards)
    words = [sys.executable, "-c", "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n" + program]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for after_s, number in signals:
            if after_s is None:
                assert process.stdout.readline() == "at its end\n"
            else:
                time.sleep(after_s)
            process.send_signal(number)
        process.communicate(timeout=60)
    return process.returncode


UNTIL_SET = """
    while not flag.set: time.sleep(0.01)
    time.sleep(0.5)"""
FOR_EVER = """
    import ctypes
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2): ctypes.CDLL(None).pthread_mutex_lock(mutex)"""
"""In C, where Python's own handlers never run; without Python's lock, as MPI and torch work."""


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_each_sets_the_flag_and_its_double_does_nothing(number: int) -> None:
    assert end_of(UNTIL_SET, (0.0, number), (0.1, number)) == 75


def test_one_that_insists_ends_the_process_even_where_the_main_thread_never_comes_back() -> None:
    assert end_of(FOR_EVER, (0.0, INT), (3.0, INT)) == 128 + INT


@pytest.mark.parametrize("number", [INT, HUP])
def test_what_is_ignored_at_the_start_stays_ignored(number: int) -> None:
    ignoring = f"signal.signal({int(number)}, signal.SIG_IGN)"
    assert end_of("time.sleep(0.5)", (0.0, number), before=ignoring) == 0


def test_sigterm_counts_even_where_it_was_ignored() -> None:
    ignoring = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    assert end_of(UNTIL_SET, (0.0, TERM), before=ignoring) == 75


@pytest.mark.parametrize("ignored", [False, True])
def test_mpi_does_not_keep_the_signals_that_it_takes(ignored: bool) -> None:
    """UCX, under MPICH, handles SIGHUP from MPI's start on, ignored or not."""
    handler = "SIG_IGN" if ignored else "SIG_DFL"
    started = (
        f"signal.signal(signal.SIGHUP, signal.{handler}); from fedmpi.mpi import stop_signals as early\n"
    )
    started += "outer = early.installed(); outer.__enter__(); from mpi4py import MPI"
    assert end_of("time.sleep(1)" if ignored else UNTIL_SET, (0.0, HUP), before=started) == (
        0 if ignored else 75
    )
