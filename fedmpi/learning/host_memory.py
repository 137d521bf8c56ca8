"""Freed memory stays with the process, so that every step of training finds its buffers where the last one left them.

The C library gives large blocks back to the system as soon as they are freed. Gradients of millions of
parameters are made and freed in every step, and the system zeroes each page again when it is touched: measured with
conv2 (6.6 M parameters, one thread), 2,000 to 4,000 page faults and a tenth of the time of a step.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

# malloc.h of glibc
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_BLOCK_BYTES = 2**30
_LARGEST_BLOCK_BYTES_OLD = 2**25  # what older versions of glibc accept


def keep_freed_memory() -> bool:
    """Ask glibc to keep what this process frees, up to blocks of 1 GiB (32 MiB in old versions).

    False where the C library is another one, and nothing changes. Call it after data have been read, because what that
    takes for a while is better given back.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK_BYTES) or mallopt(
        _M_MMAP_THRESHOLD, _LARGEST_BLOCK_BYTES_OLD
    )
    return bool(kept and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def private_bytes() -> int:
    """The memory that this process has for itself alone; 0 where the system does not say (other than Linux)."""
    try:
        text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    kib = [int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")]
    return 1024 * sum(kib[:2])  # clean and dirty pages; huge ones are among them
