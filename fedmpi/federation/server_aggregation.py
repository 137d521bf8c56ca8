"""What the server makes of updates: the aggregator with its state, and the answer to entries of a sparse exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.aggregation.interface import Aggregator, State, drop
from fedmpi.federation.messages import RoundPlan
from fedmpi.pruning.mask import Mask
from fedmpi.sparsification.codec import DENSE, Codec
from fedmpi.sparsification.interface import Choice, SparseMethod
from fedmpi.sparsification.probe_message import encode_probe
from fedmpi.sparsification.uploads import Selection, Uploads

_PREFIX = "aggregator."
"""What the names of the state's entries begin with in a checkpoint."""


class ServerAggregation:
    """What becomes of the mean of the updates on the server, in coordinates of the whole model.

    ``parameters`` is D. Other ranks than the server know the ``aggregator``, and keep no state.
    """

    def __init__(self, aggregator: Aggregator, parameters: int, is_server: bool) -> None:
        self.aggregator = aggregator
        self.parameters = parameters
        self.state: State = aggregator.init(parameters) if is_server else {}

    def combined(self, updates: NDArray[np.float32], samples: NDArray[np.int64]) -> NDArray[np.float32]:
        """What stands for the ``updates`` (n, d) of accepted clients, in rising order, with their numbers of samples.

        Raises ValueError for an aggregator that makes something of another shape.
        """
        assert self.aggregator.combine is not None
        return self._checked(self.aggregator.combine(updates, samples), updates.shape[1])

    def change(self, mean: NDArray[np.float32], indices: NDArray[np.int32] | None) -> NDArray[np.float32]:
        """One server step: what is subtracted at the coordinates ``indices`` (None: all), of which ``mean`` is given.

        ``mean`` may be overwritten. Raises ValueError for an aggregator that makes a change of another shape.
        """
        if self.aggregator.step is None:
            return mean
        length = len(mean)
        self.state, change = self.aggregator.step(self.state, mean, indices)
        return self._checked(change, length)

    def moving(
        self, values: NDArray[np.float32], indices: NDArray[np.int32], active: NDArray[np.int32] | None
    ) -> tuple[NDArray[np.int32] | None, NDArray[np.float32]]:
        """The coordinates that move where a mean of ``values`` arrived at ``indices`` alone, and the mean of each.

        The same, or all that are ``active`` (int32 rising; None: all there are) where the aggregator is ``dense``.
        """
        if not self.aggregator.dense:
            return indices, values
        whole = np.zeros(self.parameters, np.float32)
        whole[indices] = values
        return active, whole if active is None else whole[active]

    def tried(self, mean: NDArray[np.float32], indices: NDArray[np.int32] | None) -> NDArray[np.float32]:
        """What ``change`` would give, without a step: the state stays, and so does ``mean``."""
        if self.aggregator.step is None:
            return mean
        where = slice(None) if indices is None else indices
        copies = {
            name: np.array(value[where]) if isinstance(value, np.ndarray) else value
            for name, value in self.state.items()
        }
        return self._checked(self.aggregator.step(copies, mean.copy(), None)[1], len(mean))

    def drop(self, mask: Mask) -> None:
        """Go on under ``mask``: the state of what it prunes becomes zero."""
        if not mask.is_full:
            drop(self.state, mask.flags())

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state for a checkpoint; numbers are arrays without dimensions."""
        return {f"{_PREFIX}{name}": np.asarray(value) for name, value in self.state.items()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Continue from what ``to_arrays`` gave. Raises ValueError when it is the state of another aggregator."""
        expected = {name: array.shape for name, array in self.to_arrays().items()}
        found = {name: array.shape for name, array in arrays.items()}
        if found != expected:
            raise ValueError(
                f"the checkpoint has {found}, which the aggregator does not keep; it keeps {expected}"
            )
        for name, array in arrays.items():
            self.state[name.removeprefix(_PREFIX)] = array.copy() if array.ndim else array.item()

    def _checked(self, made: NDArray[np.floating], length: int) -> NDArray[np.float32]:
        if np.shape(made) != (length,):
            raise ValueError(f"the aggregator made values of shape {np.shape(made)}, expected is ({length},)")
        return np.asarray(made, dtype=np.float32)


@dataclass(frozen=True)
class Answer:
    """What the server selected of the ``uploads``, and its messages (uint8; the probe's empty without one)."""

    uploads: Uploads
    selection: Selection
    message: NDArray[np.uint8]
    probe_message: NDArray[np.uint8]
    k_down_probe: int


class Answering:
    """The server's answers: what is subtracted from w, over the ``rate``.

    With a server optimizer that is its step at the selected coordinates, or at all of them (``Aggregator.dense``), in
    which case messages are dense. Where values are rounded on their way, the server keeps what its messages lost, as
    clients do: ``lost`` (float64) has a value for each coordinate that travels, at first all ``parameters``; it is
    empty where values are not rounded. A method with a memory of the server's own keeps it there instead. ``codec`` is
    that of the uploads, ``codec_down`` that of the answers.
    """

    def __init__(
        self, method: SparseMethod, codec: Codec, aggregator: Aggregator, parameters: int, is_server: bool
    ) -> None:
        self.aggregation = ServerAggregation(aggregator, parameters, is_server)
        self.codec_down = DENSE if aggregator.dense else method.codec_down or codec
        self._method = method
        self._select = method.select
        self._support: NDArray[np.int32] | None = None
        keeps = self.codec_down.lossy or method.server is not None
        self.lost = np.zeros(parameters if keeps and is_server else 0)

    def rate(self, plan: RoundPlan) -> float:
        """What an answer is multiplied by before it is subtracted from w."""
        return 1.0 if self._method.of_updates else plan.learning_rate

    def set_mask(self, mask: Mask) -> None:
        """Go on among the coordinates that ``mask`` leaves active."""
        if self.lost.size:
            lost = np.zeros(mask.dimension)
            lost[slice(None) if self._support is None else self._support] = self.lost
            self.lost = lost[mask.flags()]
        self._support = mask.support()
        self.aggregation.drop(mask)

    def form_down(self, k: int, choice: Choice) -> Codec:
        """The form of the answer to a ``choice`` of all clients."""
        at = self._method.codec_at
        if at is None or self.codec_down is DENSE or self._method.codec_down is not None:
            return self.codec_down
        return at(k, choice)

    def answer(
        self,
        plan: RoundPlan,
        uploads: Uploads,
        tail: NDArray[np.float32],
        choice: Choice,
        share: float,
    ) -> Answer:
        """Select among the ``uploads``; ``tail`` (float32) travels beside what was selected.

        ``share``: that of the uploading clients in the samples of all clients.
        """
        if self._method.server is not None:
            return self._from_memory(plan, uploads, tail, choice, share)
        selection = self._select(uploads, plan.k)
        probe_message, k_down_probe, probed = np.empty(0, np.uint8), 0, None
        if plan.k_probe:
            probed = self._select(uploads.truncated(plan.k_probe), plan.k_probe)
            probed = self._stepped(probed, plan, tried=True)
        step = self._stepped(selection, plan, tried=False)
        exact = self._with_lost(step)
        form = self.form_down(plan.k, choice)
        message = form.encode(step.indices, exact.astype(np.float32), uploads.dimension, tail)
        if probed is not None:
            values, k_down_probe = self._with_lost(probed).astype(np.float32), len(probed.indices)
            probe_message = encode_probe(self.codec_down, step, probed, values, uploads.dimension)
        if self.lost.size:
            self.lost[step.indices] = exact - message.values
        return Answer(uploads, selection, message.data, probe_message, k_down_probe)

    def _from_memory(
        self, plan: RoundPlan, uploads: Uploads, tail: NDArray[np.float32], choice: Choice, share: float
    ) -> Answer:
        """Add the mean to the server's memory, and send the entries of it that the method chooses."""
        server = self._method.server
        assert server is not None
        mean = self._select(uploads, plan.k)
        self.lost[mean.indices] += mean.values * (share if server.estimate else 1.0)
        memory = self.lost.astype(np.float32)
        if not server.estimate:
            self.lost[:] = memory  # so that what is equal stays equal when it is sent in parts
        indices = server.choose(memory, plan.k, choice)
        message = self.form_down(plan.k, choice).encode(indices, memory[indices], uploads.dimension, tail)
        if not server.estimate:
            self.lost[indices] = memory[indices] - message.values
        selection = Selection(indices, message.values.astype(np.float64), mean.used)
        return Answer(uploads, selection, message.data, np.empty(0, np.uint8), 0)

    def _stepped(self, selection: Selection, plan: RoundPlan, tried: bool) -> Selection:
        """What goes down for a ``selection``: itself, or a server optimizer's step; ``tried``: its state stays."""
        aggregation = self.aggregation
        if aggregation.aggregator.is_mean:
            return selection
        rate = self.rate(plan)
        update = (rate * selection.values).astype(np.float32)
        chosen = selection.indices if self._support is None else self._support[selection.indices]
        where, mean = aggregation.moving(update, chosen, self._support)
        change = (aggregation.tried if tried else aggregation.change)(mean, where)
        indices = (
            np.arange(len(change), dtype=np.int32) if aggregation.aggregator.dense else selection.indices
        )
        return Selection(indices, change.astype(np.float64) / rate, selection.used)

    def _with_lost(self, step: Selection) -> NDArray[np.float64]:
        """What is to be subtracted (float64), with what earlier messages lost of it."""
        return step.values + self.lost[step.indices] if self.lost.size else step.values
