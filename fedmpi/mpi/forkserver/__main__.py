"""``python -m fedmpi.mpi.forkserver FILE ...`` or ``-m MODULE ...``: a Python program, forked where that can be."""

import os
import runpy
import sys

from fedmpi.mpi.forkserver.stub import run_forked

arguments = sys.argv[1:]
if arguments[:1] == ["-m"]:
    run_forked(arguments)
    sys.argv = arguments[1:]
    runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
else:
    run_forked(arguments)
    sys.argv = arguments
    sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))  # as Python does for a file
    runpy.run_path(arguments[0], run_name="__main__")
