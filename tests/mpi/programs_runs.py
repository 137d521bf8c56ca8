"""Run under mpiexec: python programs_runs.py FILE runs the command lines of a JSON file one after the other.

What a start costs, every rank pays once for all of them.
"""

import json
import sys
from pathlib import Path

from fedmpi.cli.main import main

if __name__ == "__main__":
    for command in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        assert main(command) == 0, command
