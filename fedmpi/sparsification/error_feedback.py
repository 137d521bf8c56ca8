"""Error feedback: what was not sent, not used or lost to rounding is kept for later rounds.

Stich, Cordonnier, Jaggi, "Sparsified SGD with memory", NeurIPS 2018; in FAB-top-k the accumulated gradient.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def take_out(
    accumulated: NDArray[np.floating],
    indices: NDArray[np.int32],
    arrived: NDArray[np.float32],
    used: NDArray[np.bool_],
) -> None:
    """Take the entries that were ``used`` out of an accumulated vector (D,), in place.

    ``indices`` (n,) were sent, ``arrived`` are their values as the receiver read them: where nothing was
    rounded an entry becomes 0.
    """
    taken = indices[used]
    accumulated[taken] -= arrived[used]
