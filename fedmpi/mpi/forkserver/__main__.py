"""``python -m fedmpi.mpi.forkserver FILE ...`` or ``-m MODULE ...``: a Python program, forked where that can be."""

from __future__ import annotations

import os
import runpy
import sys

from fedmpi.mpi.forkserver.stub import run_forked


def run_program(arguments: list[str]) -> None:
    """``python ARGUMENTS`` in this process, where they are ``-m MODULE ...`` or ``FILE ...``."""
    if arguments[0] == "-m":
        sys.argv[:] = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = arguments
        sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))  # as Python does for a file
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    program = sys.argv[1:]
    run_forked(program)
    run_program(program)
