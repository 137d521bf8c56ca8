"""What the server of a sparse exchange makes of the uploads: its selection, the step of w, and the messages with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedmpi.aggregation import Aggregator
from fedmpi.federation.plan import RoundPlan
from fedmpi.federation.server_aggregation import ServerAggregation
from fedmpi.pruning.mask import Mask
from fedmpi.sparsification.codec import DENSE, Codec
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
    """The server's answers: what is subtracted from w, over the learning rate.

    With a server optimizer that is its step at the selected coordinates, or at all of them (``Aggregator.dense``), in
    which case messages are dense. Where values are rounded on their way, the server keeps what its messages lost, as
    clients do: ``lost`` (float64) has a value for each coordinate that travels, at first all ``parameters``; it is
    empty where values are not rounded. ``codec`` is that of the uploads, ``codec_down`` that of the answers.
    """

    def __init__(
        self, select: Select, codec: Codec, aggregator: Aggregator, parameters: int, is_server: bool
    ) -> None:
        self.aggregation = ServerAggregation(aggregator, parameters, is_server)
        self.codec_down = DENSE if aggregator.dense else codec
        self._select = select
        self._support: np.ndarray | None = None
        self.lost = np.zeros(parameters if self.codec_down.lossy and is_server else 0)

    def set_mask(self, mask: Mask) -> None:
        """Go on among the coordinates that ``mask`` leaves active."""
        if self.lost.size:
            lost = np.zeros(mask.dimension)
            lost[slice(None) if self._support is None else self._support] = self.lost
            self.lost = lost[mask.flags()]
        self._support = mask.support()
        self.aggregation.drop(mask)

    def answer(self, plan: RoundPlan, uploads: Uploads, tail: np.ndarray) -> Answer:
        """Select among the ``uploads``; ``tail`` (float32) travels beside what was selected."""
        selection = self._select(uploads, plan.k)
        probe_message, k_down_probe, probed = np.empty(0, np.uint8), 0, None
        if plan.k_probe:
            probed = self._select(uploads.truncated(plan.k_probe), plan.k_probe)
            probed = self._stepped(probed, plan, tried=True)
        step = self._stepped(selection, plan, tried=False)
        exact = self._with_lost(step)
        message = self.codec_down.encode(step.indices, exact.astype(np.float32), uploads.dimension, tail)
        if probed is not None:
            values, k_down_probe = self._with_lost(probed).astype(np.float32), len(probed.indices)
            probe_message = encode_probe(self.codec_down, step, probed, values, uploads.dimension)
        if self.lost.size:
            self.lost[step.indices] = exact - message.values
        return Answer(uploads, selection, message.data, probe_message, k_down_probe)

    def _stepped(self, selection: Selection, plan: RoundPlan, tried: bool) -> Selection:
        """What goes down for a ``selection``: itself, or a server optimizer's step; ``tried``: its state stays."""
        aggregation = self.aggregation
        if aggregation.aggregator.is_mean:
            return selection
        update = (plan.learning_rate * selection.values).astype(np.float32)
        chosen = selection.indices if self._support is None else self._support[selection.indices]
        where, mean = aggregation.moving(update, chosen, self._support)
        change = (aggregation.tried if tried else aggregation.change)(mean, where)
        indices = (
            np.arange(len(change), dtype=np.int32) if aggregation.aggregator.dense else selection.indices
        )
        return Selection(indices, change.astype(np.float64) / plan.learning_rate, selection.used)

    def _with_lost(self, step: Selection) -> np.ndarray:
        """What is to be subtracted (float64), with what earlier messages lost of it."""
        return step.values + self.lost[step.indices] if self.lost.size else step.values
