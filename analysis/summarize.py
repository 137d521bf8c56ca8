"""Compare runs in a table: ``fedmpi summarize``, from a source tree."""

import sys

from fedmpi.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["summarize", *sys.argv[1:]]))
