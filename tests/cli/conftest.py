"""What the tests of commands share."""

import os
from pathlib import Path

import pytest
import torch

from fedmpi.learning.flat import FlatModel


@pytest.fixture(scope="session")
def clean_environment() -> dict[str, str]:
    """The environment of a process that finds this source tree and was not started by an MPI launcher."""
    launch = ("PMI_", "PMIX_", "OMPI_", "MPI_", "SLURM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(launch)}
    return {**kept, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


@pytest.fixture
def small_model() -> FlatModel:
    """115 parameters, and 16 values of buffers."""
    model = FlatModel(
        torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3))
    )
    assert (model.parameter_count, model.buffer_count) == (72 + 16 + 27, 16)
    return model
