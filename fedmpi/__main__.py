"""``python -m fedmpi``, and the command ``fedmpi``."""

import sys

from fedmpi.mpi import stop_signals


def main() -> int:
    """Run the command line. What asks a run to stop counts from here on, before the seconds that imports take."""
    if sys.argv[1:2] != ["run"] and not ("sweep" in sys.argv[1:2] and "--index" in sys.argv):
        return _command()
    with stop_signals.installed():
        return _command()


def _command() -> int:
    from fedmpi.cli.main import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
