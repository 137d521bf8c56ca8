"""Writers in a tight loop, killed at random instants while plain readers look on.

Run as ``python kill_writers.py FOLDER KILLS``: exits with 1 on the first file that lost a committed round,
holds a wrong row, or met a reader with an exception.
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

import h5py
import numpy as np
from conftest import ATTRIBUTES, CLIENTS, ROWS_PER_ROUND, append_known, known_devices, known_rows

from fedmpi.trace import TraceWriter
from fedmpi.trace import writer as writer_module
from fedmpi.trace.schema import TABLES


def write(path: Path, committed: mmap.mmap) -> None:
    """Write rounds for ever; ``committed`` always holds how many are surely on file."""
    writer_module._FLUSH_EVERY_S = (0.0, 0.0)
    writer = TraceWriter.create(path, ATTRIBUTES)
    writer.append(devices=known_devices())
    for round_index in range(1_000_000):
        append_known(writer, round_index)
        if round_index % 3 != 1:
            writer.commit(force=round_index % 50 == 0)
            committed[:8] = struct.pack("<q", round_index + 1)


def check(path: Path) -> int:
    """Plain h5py: the committed rounds of a file whose every row is right."""
    with h5py.File(path, "r") as file:
        committed = int(file.attrs["committed_rounds"])
        rounds = file["rounds"][:]
        assert len(rounds) >= committed, "rounds are missing"
        for table, per_round in ROWS_PER_ROUND.items():
            rows = file[table][:]
            if table == "devices":
                assert len(rows) == CLIENTS or not committed, "devices are missing"
                continue
            assert len(rows) >= len(rounds) * per_round, f"{table}: rows are missing"
            expected = known_rows(table, 0, -(-len(rows) // per_round))[: len(rows)]
            assert np.array_equal(rows, expected), f"{table}: wrong rows"
    assert set(TABLES) == set(ROWS_PER_ROUND)
    return committed


def main(folder: Path, kills: int) -> None:
    reads = rounds = 0
    random.seed(kills)
    committed = mmap.mmap(-1, 8)
    for kill in range(kills):
        path = folder / f"{kill}.h5"
        committed[:8] = bytes(8)
        child = os.fork()
        if child == 0:
            write(path, committed)
        try:
            deadline_s = time.monotonic() + 10 ** random.uniform(-2.0, -0.7)
            while time.monotonic() < deadline_s:
                if random.random() < 0.5 and path.exists():
                    (before,) = struct.unpack("<q", committed[:8])
                    assert check(path) >= before, "a committed round is missing"
                    reads += 1
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        if path.exists():
            (promised,) = struct.unpack("<q", committed[:8])
            found = check(path)
            assert found >= promised, f"{promised} rounds were committed, {found} are there"
            rounds += found
            path.unlink()
    print(f"{kills} kills, {reads} reads meanwhile, {rounds} committed rounds, none lost")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
