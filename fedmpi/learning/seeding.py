"""What makes the code of models give the same everywhere: torch's, NumPy's and Python's generators, and accelerators.

fedmpi itself draws from streams of its own.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_WORD = 2**32


def steady_accelerator() -> None:
    """Let CUDA's libraries compute the same on every rank, and in float32; for good, before a device is first used.

    cuDNN would time its algorithms and take the fastest of the day, some of which add in any order, and would round
    the factors of convolutions to TF32, of 10 bits. cuBLAS needs workspaces of fixed sizes to add in one order (both:
    "Reproducibility" in the notes of PyTorch's documentation).
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


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
