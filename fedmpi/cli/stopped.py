"""What a run that was asked to stop says at its end: one line, with the command that goes on with it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fedmpi.cli import launch


def say_before_the_run() -> None:
    """Nothing was made yet; from one rank."""
    _say("stopped before the run began: nothing was written, the same command starts it")


def say_with_checkpoint(command: str) -> None:
    """A checkpoint was made; from one rank."""
    _say(f"stopped with a checkpoint; to go on: {command}")


def command_to_go_on(arguments: Sequence[str], ranks: int, output: Path) -> str:
    """The command line that goes on with ``fedmpi ARGUMENTS``, which ran on ``ranks`` ranks and wrote to ``output``."""
    words = iter(arguments)
    kept = []
    for word in words:
        if word == "--output":
            next(words, None)
        elif word not in ("--resume", "--overwrite") and not word.startswith("--output="):
            kept.append(word)
    command = ["fedmpi", *kept, "--output", str(output), "--resume"]
    launched = any(word.partition("=")[0] == "--ranks" for word in arguments)
    return shlex.join(command if launched or ranks == 1 else ["mpiexec", "-n", str(ranks), *command])


def _say(message: str) -> None:
    if launch.rank(os.environ) == 0:
        print(f"fedmpi: {message}", file=sys.stderr, flush=True)
