"""Output of a child goes through a pipe that it can always write to."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import subprocess, sys
from fedmpi.cli.forwarding import forwarded_output
child = "import sys; sys.stdout.write('a' * 300_000); sys.stdout.flush(); sys.stderr.write('b' * 10); sys.exit(5)"
with forwarded_output() as (out, err):
    code = subprocess.call([sys.executable, "-c", child], stdout=out, stderr=err)
sys.exit(code)
"""


@pytest.mark.parametrize("redirection", [">all", "| head -c 1 >all", ">/dev/full", ">&-"])
def test_a_child_ends_as_it_would_with_a_reader(tmp_path, clean_environment, redirection):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = f"{sys.executable} {program} 2>err {redirection}; echo ${{PIPESTATUS[0]}} >code"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=clean_environment, check=True, timeout=60)
    assert (tmp_path / "code").read_text() == "5\n"
    assert (tmp_path / "err").read_text() == "b" * 10
    if redirection == ">all":
        assert (tmp_path / "all").read_text() == "a" * 300_000


def test_a_slow_reader_that_does_not_block_loses_nothing(tmp_path, clean_environment):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = subprocess.Popen([sys.executable, program], env=clean_environment, stdout=writing, stderr=-3)
    os.close(writing)
    with open(reading, "rb") as reader:
        assert len(reader.read()) == 300_000
    assert process.wait(60) == 5
