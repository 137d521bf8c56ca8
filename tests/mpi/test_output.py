"""Output never ends a run, a run that ends is marked, and a terminal is one for ranks too."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from fedmpi import trace

RUN = ["-m", "fedmpi", "run", "quickstart", "experiment.rounds=12", "experiment.evaluate_every=1"]


@pytest.mark.parametrize(
    ("ranks", "redirection"), [(1, "| head -c 1"), (3, "| head -c 1"), (3, ">/dev/full"), (2, ">&-")]
)
def test_a_run_goes_on_without_the_reader_of_its_output(tmp_path: Path, ranks: int, redirection: str) -> None:
    command = [sys.executable, *RUN, "--ranks", str(ranks), "--output", "run"]
    script = f"{' '.join(command)} 2>err {redirection} >out; echo ${{PIPESTATUS[0]}} >code"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, check=True, timeout=240)
    assert (tmp_path / "code").read_text() == "0\n"
    assert (tmp_path / "err").read_text() == ""
    run = trace.read(tmp_path / "run")
    assert run.attributes["status"] == "completed"
    assert len(run.rounds) == 12


@pytest.mark.parametrize(("ranks", "model"), [(1, "exits"), (3, "exits"), (3, "no_memory")])
def test_a_run_that_a_model_ends_has_failed(launch, tmp_path: Path, ranks: int, model: str) -> None:
    """Also where the rank that fails is not the one that writes the trace."""
    done = launch(
        ranks,
        *RUN,
        f"model.name=ending_model:{model}",
        "--output",
        tmp_path / "run",
        python_path=Path(__file__).parent,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert trace.read(tmp_path / "run").attributes["status"] == "failed"


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_line_that_is_rewritten_fits_the_terminal(tmp_path: Path, ranks: int) -> None:
    command = [sys.executable, *RUN, "--ranks", str(ranks), "--output", str(tmp_path / "run")]
    reading, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment |= {"TERM": "xterm", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True
    )
    os.close(terminal)
    shown = b""
    while piece := _read(reading):
        shown += piece
    os.close(reading)
    assert process.wait(60) == 0
    lines = [
        line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown.decode())) if line
    ]
    rounds, others = (
        [line for line in lines if "round " in line],
        [line for line in lines if "round " not in line],
    )
    assert max(map(len, rounds)) < 70
    assert all("ETA" in line for line in rounds[:-1])
    assert "round 12/12" in rounds[-1]
    note, end = others
    assert note.startswith("note: step times are estimated")
    assert end.startswith("completed")


def _read(descriptor: int) -> bytes:
    """What a terminal shows; nothing once all that had it open have gone (Linux: EIO)."""
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""
