"""What the tests of commands share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def clean_environment() -> dict[str, str]:
    """The environment of a process that finds this source tree and was not started by an MPI launcher."""
    launch = ("PMI_", "PMIX_", "OMPI_", "MPI_", "SLURM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(launch)}
    return {**kept, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
