"""``python -m fedmpi``: the same as the command ``fedmpi``."""

import sys

from fedmpi.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
