"""What the server of a sparse exchange makes of the uploads: its selection, and the messages that tell of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedmpi.federation.plan import RoundPlan
from fedmpi.pruning.mask import Mask
from fedmpi.sparsification.codec import Codec
from fedmpi.sparsification.interface import Select
from fedmpi.sparsification.probe_message import encode_probe
from fedmpi.sparsification.uploads import Selection, Uploads


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

    def __init__(self, select: Select, codec: Codec, parameters: int) -> None:
        self._select = select
        self._codec = codec
        self.lost = np.zeros(parameters if codec.lossy else 0)

    def set_mask(self, support: np.ndarray | None, mask: Mask) -> None:
        """Go on among the coordinates that ``mask`` leaves active; until now those of ``support`` were (None: all)."""
        if self.lost.size:
            lost = np.zeros(mask.dimension)
            lost[slice(None) if support is None else support] = self.lost
            self.lost = lost[mask.flags()]

    def answer(self, plan: RoundPlan, uploads: Uploads, tail: np.ndarray) -> Answer:
        """Select among the ``uploads``; ``tail`` (float32) travels beside what was selected."""
        selection = self._select(uploads, plan.k)
        exact = self._with_lost(selection)
        message = self._codec.encode(selection.indices, exact.astype(np.float32), uploads.dimension, tail)
        probe_message, k_down_probe = np.empty(0, np.uint8), 0
        if plan.k_probe:
            probe = self._select(uploads.truncated(plan.k_probe), plan.k_probe)
            values, k_down_probe = self._with_lost(probe).astype(np.float32), len(probe.indices)
            probe_message = encode_probe(self._codec, selection, probe, values, uploads.dimension)
        if self.lost.size:
            self.lost[selection.indices] = exact - message.values
        return Answer(uploads, selection, message.data, probe_message, k_down_probe)

    def _with_lost(self, selection: Selection) -> np.ndarray:
        """b (float64), with what earlier messages lost of it."""
        return selection.values + self.lost[selection.indices] if self.lost.size else selection.values
