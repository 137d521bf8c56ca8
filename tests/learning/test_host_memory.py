import mmap
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fedmpi.learning import host_memory

_PROGRAM = """
import platform, resource, sys
import torch
from fedmpi.learning.host_memory import keep_freed_memory

torch.set_num_threads(1)
kept = keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
sizes = [6_000_000, 50_000, 6_000_000]
for _ in range(3):
    blocks = [torch.ones(size) for size in sizes]
    del blocks
before = faults()
for _ in range(10):
    blocks = [torch.ones(size) for size in sizes]
    del blocks
print(platform.libc_ver()[0], kept, faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted on Linux")
def test_freed_blocks_are_used_again_without_a_page_fault() -> None:
    output = subprocess.run(
        [sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True, timeout=120
    ).stdout.split()
    if output[0] != "glibc":
        assert output[-2] == "False"
        return
    assert output[-2] == "True"
    assert int(output[-1]) < 30_000  # ten times 48 MB are 117,000 pages of 4 KiB; the heap may grow once more


def test_other_systems_keep_their_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert host_memory.keep_freed_memory() is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system does not say")
def test_private_memory_grows_with_what_is_touched() -> None:
    held = np.frombuffer(mmap.mmap(-1, 2**26), np.uint8)
    before = host_memory.private_bytes()
    held.fill(1)
    assert host_memory.private_bytes() - before == pytest.approx(2**26, rel=0.05)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is another one")
@pytest.mark.parametrize(
    ("refused", "kept", "asked"),
    [
        ((), True, [(-3, 2**30), (-1, 2**31 - 1)]),
        ((2**30,), True, [(-3, 2**30), (-3, 2**25), (-1, 2**31 - 1)]),
        ((2**30, 2**25), False, [(-3, 2**30), (-3, 2**25)]),
        ((2**31 - 1,), False, [(-3, 2**30), (-1, 2**31 - 1)]),
    ],
)
def test_the_c_library_is_asked_for_the_largest_blocks_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, refused: tuple[int, ...], kept: bool, asked: list[tuple[int, int]]
) -> None:
    seen: list[tuple[int, int]] = []

    def mallopt(what: int, value: int) -> int:
        seen.append((what, value))
        return int(value not in refused)

    library = SimpleNamespace(mallopt=mallopt)
    monkeypatch.setattr(host_memory, "ctypes", SimpleNamespace(CDLL=lambda name: library))
    assert host_memory.keep_freed_memory() is kept
    assert seen == asked


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is another one")
def test_a_c_library_without_that_choice_keeps_its_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "ctypes", SimpleNamespace(CDLL=lambda name: SimpleNamespace()))
    assert host_memory.keep_freed_memory() is False
