"""Print the tables of a published study: ``fedmpi tables``, from a source tree."""

import sys

from fedmpi.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["tables", *sys.argv[1:]]))
