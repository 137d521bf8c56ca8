"""What a program finds of its process, as JSON in the file named by its first argument; its exit by the second."""

import json
import os
import resource
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from fedmpi.mpi.forkserver.process import is_forked, launched_process


def open_files() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if not target.startswith(("/proc", "socket:")) and "fork" not in target:
                found[name] = target.split(":")[0]
    return found


def found() -> dict[str, object]:
    ignored = [n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN]
    return {
        "forked": is_forked(),
        "launched": launched_process(),
        "arguments": sys.argv,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": [path for path in sys.path if path not in ("", str(Path(__file__).parent))],
        "name": __name__,
        "mask": os.umask(0o022),
        "cpus": sorted(os.sched_getaffinity(0)),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "limits": [
            resource.getrlimit(getattr(resource, name))
            for name in sorted(dir(resource))
            if name.startswith("RLIMIT_")
        ],
        "ignored": sorted(map(int, ignored)),
        "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "files": open_files(),
        "streams": [
            None if stream is None else [stream.encoding, stream.errors, stream.line_buffering]
            for stream in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "threads": threading.active_count(),
        "modules": [name for name in ("mpi4py.MPI", "sklearn") if name in sys.modules],
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(found()))
    how = sys.argv[2] if len(sys.argv) > 2 else "0"
    if how == "wait":
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(5))
        Path(sys.argv[1]).with_suffix(".waits").write_text(str(os.getpid()))
        while True:
            signal.pause()
    if how == "group":
        os.killpg(0, signal.SIGKILL)
    if how.startswith("signal"):
        os.kill(os.getpid(), int(how.removeprefix("signal")))
    sys.exit(int(how) if how.isdecimal() else how)
