"""``python -m fedmpi``, and the command ``fedmpi``.

``-m`` lets Python search the working directory first, where a file queue.py or random.py would be taken for the
standard library's. The command ``fedmpi`` searches it last.
"""

import os
import sys

_OWN_PATH = "fedmpi.mpi.forkserver.process" not in sys.modules  # else it is that of the process it stands for
if __name__ == "__main__" and _OWN_PATH and not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

import signal  # noqa: E402

from fedmpi.experiment.streams import open_closed_streams  # noqa: E402
from fedmpi.mpi import stop_signals  # noqa: E402
from fedmpi.mpi.forkserver.stub import run_forked  # noqa: E402


def main() -> int:
    """Run the command line. What asks a run to stop counts from here on, before the seconds that imports take."""
    open_closed_streams()  # before anything else gets their numbers
    if sys.argv[1:2] != ["run"] and not ("sweep" in sys.argv[1:2] and "--index" in sys.argv):
        return _command()
    run_forked(["-m", "fedmpi", *sys.argv[1:]])
    with stop_signals.installed(afterwards=signal.SIG_IGN):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals.STOP_SIGNALS)  # a forked process begins so
        return _command()


def _command() -> int:
    from fedmpi.cli.main import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
