from __future__ import annotations

import errno
import fcntl
import os
import platform
import subprocess
import sys

import pytest

from fedmpi.experiment import folder_lock
from fedmpi.experiment.folder_lock import LOCK_NAME, FolderInUse, FolderLock, Owner

HOLD = """
import sys, time
from pathlib import Path
from fedmpi.experiment.folder_lock import FolderLock
lock = FolderLock.acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(folder_lock, "_PATIENCE_S", 0.0)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of the folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def no_locks(monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_the_refusal_names_process_and_host_and_says_what_to_do(tmp_path, holder):
    with pytest.raises(FolderInUse) as refused:
        FolderLock.acquire(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} is in use by process {holder.pid} on {platform.node()}; wait until it has ended, or stop it"
    )


def test_death_releases_the_lock(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK_NAME).exists()
    lock = FolderLock.acquire(tmp_path)
    assert Owner.parse((tmp_path / LOCK_NAME).read_text()) == Owner.this_process()
    assert lock.warning == ""
    lock.release()
    assert not list(tmp_path.iterdir())


def test_a_run_that_ends_meanwhile_is_waited_for(tmp_path, holder, monkeypatch):
    """The lock is tried again, and that of a file that was removed meanwhile is not taken for it."""
    monkeypatch.setattr(folder_lock, "_PATIENCE_S", 60.0)

    def end(pause_s):
        holder.kill()
        holder.wait()
        (tmp_path / LOCK_NAME).unlink(missing_ok=True)

    monkeypatch.setattr(folder_lock.time, "sleep", end)
    lock = FolderLock.acquire(tmp_path)
    assert (tmp_path / LOCK_NAME).read_text() == Owner.this_process().text()
    monkeypatch.setattr(folder_lock, "_PATIENCE_S", 0.0)
    with pytest.raises(FolderInUse, match=f"process {os.getpid()} on"):
        FolderLock.acquire(tmp_path)
    lock.release()


def test_a_lock_of_a_file_that_was_removed_is_none(tmp_path, monkeypatch):
    flock, removed = fcntl.flock, []

    def remove_first(descriptor, operation):
        flock(descriptor, operation)
        if not removed:
            removed.append(True)
            (tmp_path / LOCK_NAME).unlink()

    monkeypatch.setattr(fcntl, "flock", remove_first)
    lock = FolderLock.acquire(tmp_path)
    assert (tmp_path / LOCK_NAME).exists()
    lock.release()


def test_releasing_leaves_the_lock_of_another(tmp_path):
    lock = FolderLock.acquire(tmp_path)
    (tmp_path / LOCK_NAME).unlink()
    other = FolderLock.acquire(tmp_path)
    lock.release()
    assert (tmp_path / LOCK_NAME).exists()
    other.release()


def test_a_lock_file_of_garbage_is_taken_over_and_does_not_name_anybody(tmp_path, holder):
    (tmp_path / LOCK_NAME).write_bytes(b"\xff\xfe")
    with pytest.raises(FolderInUse, match="is in use by another process; wait"):
        FolderLock.acquire(tmp_path)
    holder.kill()
    holder.wait()
    FolderLock.acquire(tmp_path).release()


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match="No such file or directory"):
        FolderLock.acquire(tmp_path / "none")


def test_other_errors_of_the_lock_are_raised(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"):
        FolderLock.acquire(tmp_path)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_file_stands_for_the_lock_and_a_warning_says_so(tmp_path):
    lock = FolderLock.acquire(tmp_path)
    assert "has no locks (No locks available)" in lock.warning
    with pytest.raises(
        FolderInUse, match=rf"process {os.getpid()} on .*; remove .*{LOCK_NAME} if that process"
    ):
        FolderLock.acquire(tmp_path)
    lock.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    ("host", "pid", "start", "free"),
    [
        (platform.node(), 2**22 + 1, "before", True),  # there is no such process
        (platform.node(), os.getpid(), "before", True),  # another process has its number now
        (platform.node(), os.getpid(), Owner.this_process().start, False),
        ("elsewhere", 2**22 + 1, "before", False),
    ],
    ids=["no process", "another process", "this process", "another host"],
)
def test_without_locks_the_file_of_a_process_that_has_ended_here_is_taken_over(
    tmp_path, host, pid, start, free
):
    (tmp_path / LOCK_NAME).write_text(Owner(host, pid, start).text())
    if free:
        lock = FolderLock.acquire(tmp_path)
        assert Owner.parse((tmp_path / LOCK_NAME).read_text()) == Owner.this_process()
        lock.release()
    else:
        with pytest.raises(FolderInUse, match=f"process {pid} on {host}"):
            FolderLock.acquire(tmp_path)


def test_an_owner_is_read_as_it_was_written():
    owner = Owner.this_process()
    assert owner.start
    assert Owner.parse(owner.text()) == owner
    for text in ("", "a b", "host x start", "host 5 start more"):
        assert Owner.parse(text) is None
