"""A data set: points on two spirals, as images of 1 x 1 x 2 values."""

import numpy as np

from fedmpi.learning.datasets import Dataset


def spirals(folder, samples: int = 240, noise: float = 0.02) -> Dataset:
    draw = np.random.default_rng(0)
    angle = draw.uniform(0.5, 3.0, samples) * np.pi
    y = np.arange(samples) % 2
    points = (
        np.stack([angle * np.cos(angle + y * np.pi), angle * np.sin(angle + y * np.pi)], axis=1) / 20 + 0.5
    )
    x = (
        (points + noise * draw.standard_normal(points.shape))
        .clip(0, 1)
        .astype(np.float32)
        .reshape(-1, 1, 1, 2)
    )
    test = np.arange(samples) % 5 == 0
    return Dataset(x[~test], y[~test], None, x[test], y[test], classes=2)
