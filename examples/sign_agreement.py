"""A method of sparsification: top-k up; down come the coordinates on whose sign all clients that sent them agree."""

import numpy as np

from fedmpi.sparsification import Selection, SparseMethod, Uploads, selection_at, union_of


def agreeing(uploads: Uploads, k: int) -> Selection:
    """Of all that was sent, the coordinates whose values all have one sign."""
    positive, negative = np.zeros((2, uploads.dimension), np.bool_)
    for indices, values, _ in uploads.parts():
        positive[indices[values > 0]] = True
        negative[indices[values < 0]] = True
    union = union_of(uploads).indices
    return selection_at(uploads, union[~(positive & negative)[union]])


METHOD = SparseMethod(
    summary="top-k up; down come the coordinates on whose sign all agree",
    select=agreeing,
    at_most_k_down=False,
)
