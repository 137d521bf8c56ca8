"""The names that keys can take: those that run, and those that are known but not part of this version.

Configuration is the lowest floor and imports nothing of the parts, so their names stand here once more;
``tests/config/test_names.py`` holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping

AVAILABLE: Mapping[str, tuple[str, ...]] = {
    "data.dataset": ("digits", "idx", "leaf", "cifar10", "celeba", "imagenet"),
    "data.partition": (
        "iid",
        "by_writer",
        "by_label",
        "dirichlet",
        "shards",
        "case1",
        "case2",
        "case3",
        "case4",
    ),
    "data.augmentation": ("none", "flip_crop"),
    "model.name": ("mlp", "logistic", "cnn", "conv2", "conv4", "vgg11", "resnet18"),
    "training.loss": ("cross_entropy", "bce_one_hot"),
    "sparsification.method": ("dense", "fab", "fub_flat", "fub_tree", "unidirectional"),
    "sparsification.wire": ("auto", "coo", "bitmap", "values", "dense"),
    "k_control.method": ("fixed", "ogd_sign"),
    "pruning.method": ("none",),
    "pruning.initial.where": ("none",),
    "emulation.clock": ("virtual", "realtime"),
    "emulation.compute.model": ("unit", "linear", "measured"),
    "emulation.availability.model": ("always",),
}

_NO_PRUNING = "needs masks, and this version trains unpruned models"

ABSENT: Mapping[str, Mapping[str, str]] = {
    "sparsification.method": {
        "periodic": "this version has no set of coordinates shared by all clients",
        "fedavg": "this version has no dense exchange at matched traffic; take dense with more local_steps",
    },
    "k_control.method": {
        "ogd_value": "this version estimates the sign of the derivative only",
        "exp3": "this version has no bandit over a set of k",
        "continuous_bandit": "this version has no one-point gradient estimate",
    },
    "pruning.method": dict.fromkeys(
        ("prunefl", "snip", "iterative", "online", "lottery_reinit", "lottery_random"), _NO_PRUNING
    ),
    "pruning.initial.where": dict.fromkeys(("client", "server"), _NO_PRUNING),
    "emulation.compute.model": {
        "flops": "this version does not count floating-point operations; linear takes measured coefficients"
    },
    "emulation.availability.model": dict.fromkeys(
        ("probability", "trace"), "in this version every client answers"
    ),
}
