"""Made-up runs whose figures are known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedmpi.trace import Phase, TraceWriter
from fedmpi.trace.schema import TABLES


@pytest.fixture
def made_up(tmp_path):
    """A run folder whose accuracy rises by ``step`` each evaluation (every second round), from 0.1."""

    def make(folder, step, rounds=40, name="example", status="completed", seconds=2.5, config="", seed=0):
        (tmp_path / folder).mkdir()
        attributes = {
            "config_toml": f'[experiment]\nname = "{name}"\nseed = {seed}\n{config}',
            **dict.fromkeys(("seed", "clients", "ranks", "parameters"), 3),
            **dict.fromkeys(("host", "mpi_library", "slurm_job_id"), ""),
            "layer_names": ["weight"],
        }
        writer = TraceWriter.create(tmp_path / folder / "trace.h5", attributes)
        integers = {column: 0 for column in TABLES["rounds"].names if TABLES["rounds"][column].kind == "i"}
        for number in range(rounds):
            evaluated = number % 2 == 0
            row = {
                "round": number,
                "phase": Phase.FEDERATED,
                "end_s": (number + 1) * seconds,
                "host_s": 0.5,
                "train_loss": 2.0 * math.exp(-step * number),
                "test_loss": 2.2 * math.exp(-step * number) if evaluated else np.nan,
                "test_accuracy": min(0.1 + step * number / 2, 0.9) if evaluated else np.nan,
                "k": 1000 - 10 * number,
                "density": 1.0 - number / 100,
                "bytes_up": 1_000_000,
                "bytes_down": 3_000_000,
            }
            writer.append(rounds={**integers, **row})
        writer.close(status)
        return tmp_path / folder

    return make
