"""Draw the figures of a published study: ``fedmpi figures``, from a source tree."""

import sys

from fedmpi.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["figures", *sys.argv[1:]]))
