"""The names that keys can take: those that run, and those that are known but not part of this version.

Configuration is the lowest floor and imports nothing of the parts, so their names stand here once more;
``tests/config/test_names.py`` holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping

AVAILABLE: Mapping[str, tuple[str, ...]] = {
    "data.augmentation": ("none", "flip_crop"),
    "training.loss": ("cross_entropy", "bce_one_hot"),
    "sparsification.wire": ("auto", "coo", "bitmap", "values", "dense"),
    "sparsification.value_type": ("float32", "float16"),
    "pruning.initial.where": ("none", "client", "server"),
    "emulation.clock": ("virtual", "realtime"),
    "emulation.network.trace_start": ("zero", "random"),
    "emulation.network.transport": ("fluid", "tcp"),
    "emulation.network.connection": ("kept", "new"),
}
