"""The energy that a round takes each participant: seconds in each state times the device's power in it.

A device is in one state at a time, and its powers are those of the whole device, so that nothing is added on top of
``idle_w``: it receives (``download_s``), trains (``compute_s``), sends (``upload_s``) or waits (``wait_s``). A transfer
counts with its radio on from its start to its last byte, latency and stalls on a shared or varying link included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedmpi.emulation.profiles import POWERS, Powers

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class FleetPowers:
    """``Powers`` of each client, float64 (N,), read-only: watts, NaN where unknown."""

    idle_w: FloatArray
    compute_w: FloatArray
    transmit_w: FloatArray
    receive_w: FloatArray

    @classmethod
    def of(cls, devices: Iterable[Powers]) -> FleetPowers:
        """Those of each client's device."""
        rows = [[getattr(powers, name) for name in POWERS] for powers in devices]
        return cls(*np.array(rows, dtype=np.float64).reshape(-1, len(POWERS)).T)

    def __post_init__(self) -> None:
        for name in POWERS:
            getattr(self, name).setflags(write=False)

    def known(self) -> NDArray[np.bool_]:
        """Whether all four powers of a client are known, bool (N,)."""
        return np.isfinite(self.idle_w + self.compute_w + self.transmit_w + self.receive_w)


def energy_j(
    powers: FleetPowers,
    participants: NDArray[np.integer],
    download_s: ArrayLike,
    compute_s: ArrayLike,
    upload_s: ArrayLike,
    wait_s: ArrayLike,
) -> FloatArray:
    """Joules of each participant, float64 (n,).

    ``participants`` (n,): numbers of clients; the others (n,): emulated seconds in each state, none negative. NaN where
    a client spent any time in a state whose power is not known; a state that it was not in takes nothing.
    """
    total = np.zeros(len(participants))
    for seconds, watts in (
        (download_s, powers.receive_w),
        (compute_s, powers.compute_w),
        (upload_s, powers.transmit_w),
        (wait_s, powers.idle_w),
    ):
        spent = np.asarray(seconds, dtype=np.float64)
        total += np.where(spent == 0.0, 0.0, spent * watts[participants])
    return total
