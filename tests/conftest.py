"""Fixtures shared by the whole test suite."""

import signal
from pathlib import Path

import pytest

# A shell starts what runs in the background with Ctrl-C ignored, and programs that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
