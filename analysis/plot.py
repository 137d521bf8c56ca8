"""Draw runs: ``fedmpi plot``, from a source tree."""

import sys

from fedmpi.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["plot", *sys.argv[1:]]))
