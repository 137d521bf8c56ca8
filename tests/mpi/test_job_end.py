"""What a rank printed is read before MPI_Abort ends the job."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import cast

import pytest
from mpi4py import MPI

from fedmpi.mpi import job_end
from fedmpi.mpi.job_end import end_job, wait_until_read

PROGRAM = Path(__file__).with_name("programs_job_end.py")


class _Comm:
    """Records what MPI_Abort was called with, and what was still unread then."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def Abort(self, code: int) -> None:
        self.calls.append(code)


def test_a_pipe_counts_as_read_when_it_is_empty() -> None:
    source, entrance = os.pipe()
    assert wait_until_read((entrance,), 0.0)
    os.write(entrance, b"why")
    assert not wait_until_read((entrance,), 0.05)
    os.read(source, 2)
    assert not wait_until_read((entrance,), 0.0)
    reader = threading.Timer(0.1, os.read, (source, 8))
    reader.start()
    assert wait_until_read((entrance,), 30.0)
    reader.join()
    os.close(source)
    os.close(entrance)


def test_what_is_no_pipe_is_not_waited_for(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as file:
        file.write(b"all of it")
        assert wait_until_read((file.fileno(),), 0.0)
    closed = os.open(os.devnull, os.O_WRONLY)
    os.close(closed)
    assert wait_until_read((closed,), 0.0)


def test_all_pipes_are_waited_for_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[tuple[int, ...]] = []
    comm = _Comm()

    def wait(files: tuple[int, ...], within_s: float) -> bool:
        assert comm.calls == []
        assert within_s > 0
        waited.append(files)
        return True

    monkeypatch.setattr(job_end, "wait_until_read", wait)
    end_job(cast(MPI.Comm, comm), 3)
    assert waited == [(1, 2)]
    assert comm.calls == [3]


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_long_last_message_arrives_whole(launch, ranks: int) -> None:
    done = launch(ranks, PROGRAM, check=False)
    assert done.returncode == 7
    assert done.stderr.count("a line of the last message\n") == 500
    assert "the last line of the last message" in done.stderr
