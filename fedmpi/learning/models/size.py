"""How large a model would be, found out before any memory is taken for it."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from fedmpi.config.errors import ConfigError
from fedmpi.config.ranges import MOST_PARAMETERS

_COPIES = 2
"""Of all parameters while a model is built: the module's own, and the flat vector that they move to."""


def refuse_oversized(name: str, build: Callable[[], nn.Module]) -> None:
    """Raise ConfigError if the model that ``build`` makes has too many parameters for fedmpi or for this host.

    It is built on torch's meta device, where tensors have shapes and no values: no random numbers are drawn.
    """
    try:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in build().parameters())
    except RuntimeError as error:  # a tensor of more bytes than 64 bits can count
        raise _too_large(name, "more than 10^18") from error
    if count > MOST_PARAMETERS:
        raise _too_large(name, f"{count}")
    needed, free = 4 * count * _COPIES, free_bytes()
    if free is not None and needed > free:
        problem = f"{name} has D = {count} parameters, which take {_gib(needed)}"
        raise ConfigError("model", problem, f"what fits into the {_gib(free)} that are free here")


def free_bytes() -> int | None:
    """Memory that this process can still get, as far as the system says; None where it does not."""
    limits = []
    try:
        rows = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        limits += [int(row[1]) * 1024 for row in rows if row[0] == "MemAvailable:"]
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
        if address_space != resource.RLIM_INFINITY:
            limits.append(max(0, address_space - pages * resource.getpagesize()))
    except (OSError, ValueError, IndexError):  # no Linux
        return None
    return min(limits, default=None)


def _too_large(name: str, count: str) -> ConfigError:
    allowed = f"at most {MOST_PARAMETERS}: smaller layers, or smaller images"
    return ConfigError("model", f"{name} has D = {count} parameters", allowed)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
