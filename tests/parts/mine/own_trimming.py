import numpy as np

from fedmpi.aggregation import Aggregator


def without_extremes(each_side: int = 1) -> Aggregator:
    def combine(updates, samples):
        most = (len(updates) - 1) // 2
        left_out = min(each_side, most)
        ordered = np.sort(updates, axis=0)
        return ordered[left_out : len(updates) - left_out].mean(axis=0)

    return Aggregator(
        summary="the mean of each coordinate without its extremes",
        combine=combine,
        sparse_refused="which needs all values of a coordinate",
    )
