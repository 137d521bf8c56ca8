"""Pruning on the server: the method that changes the mask, and what a mask costs in bytes and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.emulation.compute import LocalTraining
from fedmpi.federation.downlink import Downlink
from fedmpi.federation.exchange import Exchange
from fedmpi.federation.importance_pairs import RECEIVED, ImportanceForm, ImportanceSum
from fedmpi.federation.joint import decide_together
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.federation.messages import RoundPlan
from fedmpi.federation.received_importance import ReceivedImportance
from fedmpi.federation.round_cost import Accountant, BoolArray, ExpectedRound, FloatArray, IntArray, Work
from fedmpi.numerics.streams import Purpose, generator
from fedmpi.pruning import NONE, Change, Losses, Mask, Method, Needs, Observation, Setup, State
from fedmpi.pruning.active_values import new_mask_bytes
from fedmpi.pruning.interface import MASK
from fedmpi.pruning.mask import never_pruned
from fedmpi.pruning.round_time import RoundTime
from fedmpi.sparsification.uploads import Uploads

_NUMBERS = "pruning"

BestK = Callable[[Callable[[IntArray], FloatArray], int], int]
"""``best_k(round_s, most)``: the best k up to ``most`` where rounds with ``k`` (n,) take ``round_s(k)`` (n,)."""


@dataclass(frozen=True)
class FinishedRound:
    """What a pruning method may be interested in of a round.

    ``samples`` and ``compute_s`` (participants,): what was processed, and in how many emulated seconds; ``k_down``
    values came down. ``weights`` (D,) are those after the round, ``before`` those before it where the mask may change,
    ``importance`` is what clients sent of it, ``losses`` those of a mask that was tried. ``work`` of all
    participants, ``accepted`` bool (participants,), and the ``uploads`` of those, where the server looked at them:
    gradients times ``upload_rate``; ``votes`` (D,): the samples of those whose own masks kept a parameter.
    """

    plan: RoundPlan
    samples: IntArray
    compute_s: FloatArray
    k_down: int
    weights: NDArray[np.float32]
    before: NDArray[np.float32] | None
    importance: ImportanceSum | None
    losses: Losses | None
    work: Work | None = None
    accepted: BoolArray | None = None
    uploads: Uploads | None = None
    upload_rate: float = 1.0
    votes: NDArray[np.int32] | None = None


class ServerPruning:
    """The pruning method with its ``state``, whose mask is the one that all ranks go on under.

    It asks rounds for what the method needs, announces masks to the downlink, and times rounds by the present mask.
    """

    def __init__(
        self,
        method: Method,
        setup: Setup,
        seed: int,
        masked: MaskedModel,
        exchange: Exchange,
        downlink: Downlink,
        accountant: Accountant,
        batch_size: int,
        value_type: str = "float32",
    ) -> None:
        """``value_type``: that of values of importance that travel as pairs."""
        self.method = method
        self.setup = setup
        self.seed = seed
        self.state: State = method.init(setup, masked.mask)
        self._masked = masked
        self._exchange = exchange
        self._downlink = downlink
        self._accountant = accountant
        self._batch_size = batch_size
        self._form = ImportanceForm(method, setup, value_type)
        self._received: ReceivedImportance | None = None
        if method.importance and setup.config.importance == RECEIVED:
            self._received = ReceivedImportance(masked.mask.dimension)

    def needs(self, round_index: int) -> Needs:
        """What the method asks of the round that is about to run; NOTHING: the mask stays."""
        return self.method.needs(self.setup, self.state, round_index)

    def active_of_layers(self, layer_k: Sequence[int]) -> tuple[int, ...]:
        """``layer_k`` entries of each layer, or as many as the mask leaves."""
        active = self._masked.mask.active_per_layer(self.setup.layers).tolist()
        return tuple(map(min, layer_k, active))

    def importance_bytes(self, plan: RoundPlan) -> int:
        """What a participant adds to its message, if importance is asked for."""
        if Needs.IMPORTANCE not in plan.needs:
            return 0
        return self._form.message_bytes(self._masked.mask, plan.round_index, plan.k)

    def mask_to_try(self, weights: NDArray[np.float32]) -> Mask:
        """The smaller mask under which losses are wanted, by the weights (D,) after the round; full for none."""
        probe = self.method.probe
        mask = None if probe is None else probe(self.setup, self.state, weights)
        return Mask(weights.size) if mask is None else mask

    def step(self, finished: FinishedRound) -> Change | None:
        """The method's step after a round; the change is None where the mask stays."""
        if self.method is NONE:
            return None
        self.state, change = self._decided(self._observed(finished))
        return change

    def step_with_k(self, finished: FinishedRound, k: int, best_k: BestK) -> tuple[Change | None, int | None]:
        """The same where the k of the next round, so far ``k``, is decided with a mask that changes (``joint``).

        None for k where the mask stays: so does k then.
        The time of a round has its share of the importance and of the masks that travel every so many rounds.
        """
        seen = self._observed(finished)
        if seen.time is None:
            self.state, change = self._decided(seen)
            return change, None
        plan, steps = finished.plan, finished.samples / self._batch_size
        every, mask = self.setup.config.reconfigure_every, self._masked.mask
        importance_at = self._form.bytes_at(mask, plan.round_index)
        mask_bytes, down_each = self.new_mask_bytes(mask), finished.k_down / plan.k

        def time_at(k: int) -> RoundTime:
            k_down = min(round(k * down_each), self._exchange.dimension)
            importance_bytes = importance_at(k) if Needs.IMPORTANCE in plan.needs else 0
            extra_bytes = importance_bytes / every, mask_bytes / every
            return self.round_time(plan.participants, steps, finished.compute_s, k, k_down, extra_bytes)

        def k_for(decided: tuple[State, Change | None]) -> int:
            state, change = decided
            stays = change is None or not change.is_new
            active = state.mask.active_per_layer(self.setup.prunable)

            def round_s(k: int) -> float:
                time = time_at(k)
                return time.present_s if stays else time.seconds(active)

            most = min(state.mask.count, self._exchange.dimension)
            return best_k(lambda k: np.array([round_s(each) for each in k.tolist()]), most)

        (self.state, change), decided_k = decide_together(
            min(k, self._exchange.dimension), lambda k: self._decided(replace(seen, time=time_at(k))), k_for
        )
        stays = change is None or not change.is_new
        return change, None if stays else decided_k

    def _decided(self, seen: Observation) -> tuple[State, Change | None]:
        draw = generator(self.seed, Purpose.PRUNING, seen.round_index).random
        return self.method.step(self.setup, self.state, seen, draw)

    def _observed(self, finished: FinishedRound) -> Observation:
        """What the method sees of a round; what was received of importance is taken in, or given out."""
        plan, needs = finished.plan, finished.plan.needs
        importance = self._importance(finished)
        observation = Observation(plan.round_index)
        if needs:
            gradient = time = change_s = None
            if Needs.GRADIENT in needs:
                assert finished.before is not None
                gradient = (finished.before - finished.weights) / np.float32(plan.learning_rate)
            if Needs.TIME in needs:
                steps = finished.samples / self._batch_size
                time = self.round_time(plan.participants, steps, finished.compute_s, plan.k, finished.k_down)
                change_s = partial(self._change_s, finished)
            observation = Observation(
                plan.round_index,
                weights=finished.weights,
                gradient=gradient,
                importance=importance,
                time=time,
                change_s=change_s,
                losses=finished.losses if Needs.LOSSES in needs else None,
                votes=finished.votes,
            )
        return observation

    def _importance(self, finished: FinishedRound) -> NDArray[np.float64] | None:
        """Importance as it is known after a round in which it was asked for, of what the server has received too.

        Zeros where nobody's update was accepted: then clients and server keep what they have gathered.
        """
        received = self._received
        if finished.importance is not None and finished.accepted is not None and not finished.accepted.any():
            return np.zeros(self._masked.mask.dimension)
        if received is None:
            return None if finished.importance is None else finished.importance.values
        if finished.uploads is not None:
            assert finished.accepted is not None
            samples, support = finished.samples[finished.accepted], self._masked.support
            received.add(finished.uploads, samples, support, finished.upload_rate)
        if finished.importance is None:
            return None
        sent = finished.importance
        importance = received.importance(sent.values, sent.energy, self._masked.mask.flags())
        received.clear()
        return importance

    def _change_s(self, finished: FinishedRound, mask: Mask) -> float:
        """By how many seconds a round is longer in which clients send importance, and download ``mask``."""
        plan, work = finished.plan, finished.work
        assert work is not None
        without = replace(work, bytes_up=work.bytes_up - self.importance_bytes(plan))
        together = replace(work, bytes_down=work.bytes_down + self.new_mask_bytes(mask))
        longer, shorter = (self._accountant.round(plan.start, each) for each in (together, without))
        return longer.duration_s - shorter.duration_s

    def compute_seconds(self, clients: IntArray, steps: FloatArray, host_s: FloatArray) -> FloatArray:
        """Emulated seconds (n,) in which ``clients`` (n,) make their local ``steps`` under the present mask."""
        active, density = self._masked.active_prunable, self._masked.density
        return self._accountant.fleet.compute.seconds(
            LocalTraining.of(clients, steps, active, density=density, host_s=host_s)
        )

    def round_time(
        self,
        participants: IntArray,
        steps: FloatArray,
        compute_s: FloatArray,
        k: int,
        k_down: int,
        extra_bytes: tuple[float, float] = (0.0, 0.0),
    ) -> RoundTime:
        """T(M) of a round of ``participants`` (n,) with ``steps`` and ``compute_s`` (n,), under the present mask.

        Each sends ``k`` values and receives ``k_down``, and ``extra_bytes`` up and down besides.
        """
        up, each_up = self._exchange.bytes_by_size(k)
        down, each_down = self._exchange.bytes_by_size(k_down, down=True)
        return self._accountant.round_time(
            ExpectedRound(
                participants=participants,
                steps=steps,
                compute_s=compute_s,
                active_prunable=self._masked.active_prunable,
                never_pruned=never_pruned(self.setup.layers),
                k=k,
                k_down=k_down,
                bytes_up=(up + extra_bytes[0], each_up),
                bytes_down=(down + extra_bytes[1], each_down),
                period=self._exchange.period,
                sketch_bytes=self._exchange.sketch.bytes,
            )
        )

    def new_mask_bytes(self, mask: Mask) -> int:
        """Bytes of a message that brings ``mask`` to whoever has another."""
        return new_mask_bytes(mask, self.setup.layers)

    def start(self) -> None:
        """Start the method with the present mask, in which round 0 will run; clients do not have it yet."""
        mask = self._masked.mask
        self.state = self.method.init(self.setup, mask)
        if not mask.is_full:
            self.announce()

    def announce(self) -> None:
        """The present mask is a new one, which clients are charged for from now on."""
        mask = self._masked.mask
        self._downlink.new_mask(mask.flags(), self._exchange.dimension, self.new_mask_bytes(mask))

    def to_dict(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What a checkpoint keeps: arrays, and numbers as JSON; nothing where nothing is pruned."""
        if self.method is NONE:
            return {}, {}
        numbers = self.state.to_dict()
        arrays: dict[str, NDArray[Any]] = {MASK: numbers.pop(MASK)}
        received = ({}, {}) if self._received is None else self._received.to_dict()
        return arrays | received[0], {_NUMBERS: numbers, **received[1]}

    def restore(self, arrays: Mapping[str, NDArray[Any]], numbers: Mapping[str, Any]) -> None:
        """Continue from what ``to_dict`` gave, under its mask, which is the present one already."""
        if self.method is NONE:
            return
        self.state = self.method.state.from_dict({MASK: arrays[MASK], **numbers[_NUMBERS]})
        if self._received is not None:
            self._received.restore(arrays, numbers)
        mask = self.state.mask
        self._downlink.set_mask(mask.flags(), self._exchange.dimension, self.new_mask_bytes(mask))
