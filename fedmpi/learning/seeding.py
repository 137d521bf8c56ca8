"""The global random generators of torch, NumPy and Python, seeded for a while and put back.

fedmpi draws from streams of its own; these are for the code of models.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_WORD = 2**32


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Inside, torch's generators of the CPU and of ``device``, ``numpy.random`` and ``random`` start from ``seed``.

    ``seed`` lies in [0, 2**64). Afterwards all generators are put back.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    state_of_python, state_of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=cuda):
            torch.default_generator.manual_seed(seed)
            for one in cuda:
                with torch.cuda.device(one):
                    torch.cuda.manual_seed(seed)
            random.seed(seed)
            np.random.seed((seed % _WORD, seed // _WORD))  # noqa: NPY002
            yield
    finally:
        random.setstate(state_of_python)
        np.random.set_state(state_of_numpy)  # noqa: NPY002
