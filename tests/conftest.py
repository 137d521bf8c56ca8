"""Fixtures shared by the whole test suite."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The folder of golden vectors and measured constants."""
    return Path(__file__).resolve().parent / "golden"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data beside the project; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[1] / ".." / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"real data are not there: {folder} is missing")
    return folder.resolve()
