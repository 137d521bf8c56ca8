"""What the server of a sparse exchange makes of the uploads: its selection, and the messages that tell of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedmpi.federation.plan import RoundPlan
from fedmpi.pruning.mask import Mask
from fedmpi.sparsification.probe_message import encode_probe
from fedmpi.sparsification.uploads import Selection, Uploads
from fedmpi.sparsification.wire import NO_TAIL, Message, encode


@dataclass(frozen=True)
class SparseMethod:
    """One way of being sparse.

    ``select`` is the server's. ``shared``, where there is one, gives the coordinates that all clients send in a
    round, by dimension, round and k; else each sends the k of largest magnitude. ``survivors_told``: clients cannot
    see from J which of their entries were used, and are told. Messages have the form ``wire``, with values of
    ``value_type``.
    """

    select: Callable[[Uploads, int], Selection]
    wire: str
    value_type: str = "float32"
    shared: Callable[[int, int, int], np.ndarray] | None = None
    survivors_told: bool = False

    def encode(
        self, indices: np.ndarray, values: np.ndarray, dimension: int, tail: np.ndarray = NO_TAIL
    ) -> Message:
        """A message of either side; see ``sparsification.wire.encode``."""
        return encode(self.wire, indices, values, dimension, value_type=self.value_type, tail=tail)


@dataclass(frozen=True)
class Answer:
    """What the server selected of the ``uploads``, and its messages (uint8; the probe's empty without one)."""

    uploads: Uploads
    selection: Selection
    message: np.ndarray
    probe_message: np.ndarray
    k_down_probe: int


class Answering:
    """The server's answers. Where values are rounded on their way, it keeps what its messages lost, as clients do.

    ``lost`` (float64) has a value for each coordinate that travels, at first all ``parameters``; it is empty where
    values are not rounded.
    """

    def __init__(self, method: SparseMethod, parameters: int) -> None:
        self.method = method
        self.lost = np.zeros(0 if method.value_type == "float32" else parameters)

    def set_mask(self, support: np.ndarray | None, mask: Mask) -> None:
        """Go on among the coordinates that ``mask`` leaves active; until now those of ``support`` were (None: all)."""
        if self.lost.size:
            lost = np.zeros(mask.dimension)
            lost[slice(None) if support is None else support] = self.lost
            self.lost = lost[mask.flags()]

    def answer(self, plan: RoundPlan, uploads: Uploads, tail: np.ndarray) -> Answer:
        """Select among the ``uploads``; ``tail`` (float32) travels beside what was selected."""
        method = self.method
        selection = method.select(uploads, plan.k)
        exact = self._with_lost(selection)
        message = method.encode(selection.indices, exact.astype(np.float32), uploads.dimension, tail)
        probe_message, k_down_probe = np.empty(0, np.uint8), 0
        if plan.k_probe:
            probe = method.select(uploads.truncated(plan.k_probe), plan.k_probe)
            values, k_down_probe = self._with_lost(probe).astype(np.float32), len(probe.indices)
            probe_message = encode_probe(
                method.wire, selection, probe, values, uploads.dimension, method.value_type
            )
        if self.lost.size:
            self.lost[selection.indices] = exact - message.values
        return Answer(uploads, selection, message.data, probe_message, k_down_probe)

    def _with_lost(self, selection: Selection) -> np.ndarray:
        """b (float64), with what earlier messages lost of it."""
        return selection.values + self.lost[selection.indices] if self.lost.size else selection.values
