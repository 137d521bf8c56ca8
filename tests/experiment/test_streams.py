"""Standard streams that cannot be written never raise, and lead nowhere from then on."""

import io
import os
import subprocess
import sys

import pytest

from fedmpi.experiment.streams import unfailing_streams


class Broken(io.StringIO):
    """A stream that fails after ``left`` writes."""

    encoding = "ascii"

    def __init__(self, left: int, error: Exception) -> None:
        super().__init__()
        self.left, self.error = left, error

    def write(self, text: str) -> int:
        self.left -= 1
        if self.left < 0:
            raise self.error
        text.encode("ascii")
        return super().write(text)

    def flush(self) -> None:
        if self.left < 0:
            raise self.error


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "full"), OSError(5, "gone"), ValueError("closed file")]
)
def test_writing_to_a_broken_stream_raises_nothing(monkeypatch, error):
    out, err = Broken(1, error), Broken(0, error)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with unfailing_streams():
        assert sys.stdout.write("a") == 1
        assert sys.stdout.write("bc") == 2
        sys.stdout.writelines(["d", "e"])
        print("f", file=sys.stderr, flush=True)
    assert out.getvalue() == "a"
    assert (sys.stdout, sys.stderr) == (out, err)


def test_other_errors_of_the_caller_are_raised(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with unfailing_streams(), pytest.raises(TypeError):
        sys.stdout.write(3)


def test_characters_that_a_stream_does_not_have_are_escaped(monkeypatch):
    out = Broken(9, OSError())
    monkeypatch.setattr(sys, "stdout", out)
    with unfailing_streams():
        assert sys.stdout.write("a é") == 3
        assert sys.stdout.isatty() is False
    assert out.getvalue() == "a \\xe9"


PROGRAM = """
import os, sys
from fedmpi.experiment.streams import drop_unwritten, open_closed_streams, unfailing_streams
open_closed_streams()
file = os.open(os.devnull, os.O_RDONLY)
with unfailing_streams():
    for number in range(3):
        print("x" * 100_000, flush=number == 1)
    print("said", file=sys.stderr)
drop_unwritten()
usable = sys.stdin.readable() and sys.stdout.writable() and sys.stderr.writable()
sys.exit(7 if usable and file > 2 else 8)
"""


@pytest.mark.parametrize(
    "redirection", ["| true", ">/dev/full", ">&-", ">&- 2>&- <&-", ">/dev/full 2>/dev/full", ""]
)
def test_a_process_ends_as_it_would_with_a_reader(tmp_path, redirection):
    """Its exit code is its own, nothing is said of the stream, and no file gets the number of a closed one.

    What was closed can be read or written as it could be.
    """
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = f"({sys.executable} {program} {redirection}; echo ${{PIPESTATUS[0]}} >code) 2>err >out"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=60, env={**os.environ})
    assert (tmp_path / "code").read_text() == "7\n"
    assert (tmp_path / "err").read_text() == ("" if "2>" in redirection else "said\n")
