"""``python -m fedmpi``: the same as the command ``fedmpi``.

``-m`` lets Python search the working directory first, where a file queue.py or random.py would be taken for the
standard library's. The command ``fedmpi`` searches it last.
"""

import os
import sys

if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

from fedmpi.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
