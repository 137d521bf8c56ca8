"""Processes that save checkpoints without a pause, killed at random instants, each going on after the last.

Run as ``python kill_savers.py FOLDER KILLS``: exits with 1 when a finished checkpoint is lost or damaged.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

from test_checkpoint import check, save

from fedmpi import checkpoint


def save_for_ever(folder: Path, first_round: int, finished: mmap.mmap) -> None:
    """``finished`` always holds the last round that is surely saved; every third is saved twice."""
    for round_index in range(first_round, first_round + 1_000_000):
        for _ in range(2 if round_index % 3 == 0 else 1):
            save(folder, round_index)
            finished[:8] = struct.pack("<q", round_index)


def main(folder: Path, kills: int) -> None:
    random.seed(kills)
    finished = mmap.mmap(-1, 8)
    finished[:8] = struct.pack("<q", -1)
    for _ in range(kills):
        (last,) = struct.unpack("<q", finished[:8])
        child = os.fork()
        if child == 0:
            save_for_ever(folder, last + 1, finished)
        time.sleep(random.uniform(0.0, 0.2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        (last,) = struct.unpack("<q", finished[:8])
        saved, problems = checkpoint.latest_good(folder)
        assert problems == [], problems
        if last >= 0:
            assert saved is not None, "no checkpoint is left"
            assert saved.round_index >= last, "the last finished checkpoint is lost"
            check(saved, saved.round_index)
            assert len(checkpoint.candidates(folder)) >= min(last + 1, 2), "the one before is lost"
    print(f"{kills} kills while saving {last + 1} checkpoints, none lost")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
