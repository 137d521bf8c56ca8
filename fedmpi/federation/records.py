"""Small records of fixed dtype that ranks send beside the payload: what happened to each participant."""

from __future__ import annotations

import numpy as np

RECORD = np.dtype(
    [
        ("client", np.int64),
        ("samples", np.int64),
        ("entries", np.int64),
        ("message_bytes", np.int64),
        ("train_loss", np.float64),
        ("max_abs", np.float64),
        ("compute_host_s", np.float64),
        ("ready_s", np.float64),
        ("signalled", np.int8),
    ]
)
"""One participant after its training. ``samples``: how many it processed, repetitions counted. ``entries``: how
many values it sends, in a message of ``message_bytes``. ``max_abs``: its largest |update|, NaN or inf when the
update is not finite. ``compute_host_s``: how long training took here; ``ready_s``: the emulated moment at which
it was done (NaN under a virtual clock). ``signalled``: whether its rank was asked to stop."""

VERDICT = np.dtype([("deadline_s", np.float64), ("message_bytes", np.int64), ("accepted", np.int8)])
"""The server's word on one participant, in client order: the emulated time at which its message has arrived, how
long that is, and whether its update is taken."""

LOSSES = np.dtype(
    [
        ("client", np.int64),
        ("previous", np.float64),
        ("current", np.float64),
        ("probe", np.float64),
        ("pruned", np.float64),
    ]
)
"""The losses of one participant's probe sample under w(m-1), w(m), w'(m), and w(m) pruned to a mask that is tried."""
