"""The short form of soak_kills.py."""

import subprocess
import sys
from pathlib import Path


def test_a_few_kills() -> None:
    script = Path(__file__).with_name("soak_kills.py")
    words = [sys.executable, script, "--kills", "3", "--seed", "3"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DIFFERS" not in done.stdout
    table, _, killed = done.stdout.partition("\nconfiguration  runs  kills  different\n")[2].partition(
        "killed:"
    )
    kills = [int(line.split()[2]) for line in table.splitlines()]
    assert sum(kills) == sum(int(part.split()[-1]) for part in killed.split(",")) == 3
