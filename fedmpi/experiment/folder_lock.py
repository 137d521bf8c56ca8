"""A run owns its folder: a lock that names host and process, and that ends with the process, however it ends.

The lock is that of the operating system (``flock``) on the file ``fedmpi.lock`` in the folder, which is removed
when the run ends; one that a killed run left behind locks nothing. On a file system without locks the file itself
stands for the lock: whether its process still runs can then be seen on its own host alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedmpi.mpi.forkserver.process import launched_process

LOCK_NAME = "fedmpi.lock"

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_PATIENCE_S = 1.0
_POLL_S = 0.05


class FolderInUse(RuntimeError):
    """Another process owns the folder; the message says which, and how one can go on."""


@dataclass(frozen=True)
class Owner:
    """The process that a lock file names; ``start`` tells it from later ones of the same number, "" if unknown."""

    host: str
    pid: int
    start: str

    @classmethod
    def this_process(cls) -> Owner:
        """The process that calls, by the one that a launcher or a shell started."""
        return cls(platform.node(), launched_process(), _start_of(launched_process()))

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """The owner in the text of a lock file, None where it names none."""
        words = text.split(" ")
        if len(words) != 3 or not words[1].isdecimal():
            return None
        return cls(words[0], int(words[1]), words[2].strip())

    def text(self) -> str:
        """One line for a lock file; ``parse`` reads it."""
        return f"{self.host} {self.pid} {self.start}\n"

    def has_ended(self) -> bool:
        """Whether it is known to have ended: never for a process of another host."""
        return self.host == platform.node() and _start_of(self.pid) != self.start


class FolderLock:
    """The lock of a folder, held from ``acquire`` until ``release`` or the death of this process.

    ``warning`` says so where the file system has no locks, and is empty otherwise. ``made``: folders, innermost first,
    that are removed with the lock if there is nothing in them.
    """

    def __init__(self, path: Path, descriptor: int | None, warning: str = "") -> None:
        self.warning = warning
        self.made: Sequence[Path] = ()
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, folder: Path) -> FolderLock:
        """Lock an existing folder. FolderInUse when another process has it, OSError when it cannot be written."""
        path = folder / LOCK_NAME
        deadline_s = time.monotonic() + _PATIENCE_S  # its last run may just be ending
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = Owner.parse(_text(descriptor))
                os.close(descriptor)
                if time.monotonic() > deadline_s:
                    raise in_use(folder, owner) from None
                time.sleep(_POLL_S)
                continue
            except OSError as error:
                os.close(descriptor)
                if error.errno not in _NO_LOCKS:
                    raise
                return cls._without_locks(folder, path, error)
            if _is_at(descriptor, path):  # else its last owner has removed it meanwhile
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, Owner.this_process().text().encode(), 0)
                return cls(path, descriptor)
            os.close(descriptor)

    def release(self) -> None:
        """Remove the lock file and the lock."""
        with suppress(OSError):
            if self._descriptor is None or _is_at(self._descriptor, self._path):
                self._path.unlink()
        if self._descriptor is not None:
            os.close(self._descriptor)
        with suppress(OSError):  # the first that is not empty
            for folder in self.made:
                folder.rmdir()

    @classmethod
    def _without_locks(cls, folder: Path, path: Path, error: OSError) -> FolderLock:
        """The lock file alone: who makes it owns the folder. It was made empty where it was not there."""
        owner = Owner.parse(path.read_text(encoding="utf-8", errors="replace"))
        if owner is not None and not owner.has_ended():
            raise in_use(folder, owner, f"remove {path} if that process has ended")
        path.unlink(missing_ok=True)
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(Owner.this_process().text())
        except FileExistsError:
            raise in_use(folder, None, f"remove {path} if no run has begun there just now") from None
        warning = f"the file system of {folder} has no locks ({error.strerror}); only {path} keeps a second run away"
        return cls(path, None, warning)


def owner_of(folder: Path) -> Owner | None:
    """The living process that has the lock of ``folder``; None where there is none. Changes nothing."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        owner = Owner.parse(_text(descriptor))
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return owner or Owner("an unknown host", 0, "")
    except OSError:
        return None if owner is None or owner.has_ended() else owner
    finally:
        os.close(descriptor)
    return None


def in_use(
    folder: Path, owner: Owner | None, advice: str = "wait until it has ended, or stop it"
) -> FolderInUse:
    """The error for a folder that another process owns."""
    who = f"process {owner.pid} on {owner.host}" if owner is not None else "another process"
    return FolderInUse(f"{folder} is in use by {who}; {advice}")


def _text(descriptor: int) -> str:
    return os.pread(descriptor, 1000, 0).decode("utf-8", "replace")


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _start_of(pid: int) -> str:
    """When a process of this host was started, as Linux counts; "" where there is none.

    Elsewhere than on Linux only whether there is one.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        with suppress(OSError):
            os.kill(pid, 0)
            return "running"
        return ""
    return f"{boot}-{stat.rpartition(')')[2].split()[19]}"
