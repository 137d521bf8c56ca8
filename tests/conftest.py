"""Fixtures shared by the whole test suite."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of golden vectors and real data beside the project; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[1] / ".." / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip(f"golden vectors and data are not there: {folder} is missing")
    return folder.resolve()
