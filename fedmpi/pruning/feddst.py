"""FedDST: clients adjust masks of their own while they train, and the server takes what they kept.

Bibikar, Vikalo, Wang, Chen, "Federated dynamic sparse training: computing less, communicating less, yet learning
better", AAAI 2022 (arXiv 2112.09824). Biases are never pruned. A client's own mask lasts for one round: all start the
next from the server's weights and mask, so nothing of it is kept between rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, floor, pi, prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmpi.k_control import Draw
from fedmpi.numerics.topk import largest
from fedmpi.pruning.interface import Change, Method, Needs, Observation, Setup, State, required
from fedmpi.pruning.magnitude import magnitudes
from fedmpi.pruning.mask import Mask

Flags = NDArray[np.bool_]
_ABOVE_ALL = np.uint32(1 << 31)
_NAME = "feddst"


class Readjusted(NamedTuple):
    """A layer after a readjustment: what was left by pruning, what is ``active`` after growing, and what became 0."""

    pruned_to: Flags
    active: Flags
    reset: Flags


def kept_entries(shapes: Sequence[Sequence[int]], biases: Sequence[int], sparsity: float) -> list[int]:
    """keep_l of each layer, whose weights have ``shapes`` and beside which there are so many ``biases``.

    Layers are the sparser the nearer 1 - sum(shape) / prod(shape) is to 1. May be negative, or more than the weights:
    then pruning leaves the layer as it is. Where no layer has an own sparsity (all are rows or columns), all have the
    same.
    """
    sizes = [prod(shape) + beside for shape, beside in zip(shapes, biases, strict=True)]
    raw = [1 - sum(shape) / prod(shape) for shape in shapes]
    if max(raw) <= 0:
        raw = [1.0] * len(raw)
    scale = sparsity * sum(sizes) / sum(part * size for part, size in zip(raw, sizes, strict=True))
    return [floor((1 - part * scale) * size) for part, size in zip(raw, sizes, strict=True)]


def decayed(alpha: float, round_index: int, end: int) -> float:
    """alpha_r = alpha / 2 (1 + cos(r pi / end)); 0 from round ``end`` on."""
    return alpha / 2 * (1 + cos(round_index * pi / end)) if round_index < end else 0.0


def pruned_to(weights: NDArray[np.float32], active: Flags, keep: int) -> Flags:
    """The flags of a layer of which the least |weights|, inactive ones first, are masked until ``keep`` are left.

    Among equal ones the lower index goes first. Unless 0 <= keep <= n the layer stays as it is.
    """
    if not 0 <= keep <= active.size:
        return active.copy()
    least = np.where(active, _ABOVE_ALL - 1 - magnitudes(weights), _ABOVE_ALL)
    flags = active.copy()
    flags[largest(least, active.size - keep)] = False
    return flags


def readjusted(
    weights: NDArray[np.float32],
    gradient: NDArray[np.float32],
    active: Flags,
    keep_pruned: int,
    keep_grown: int,
    program: bool = False,
) -> Readjusted:
    """Prune a layer to ``keep_pruned``, then take in the largest |gradient| until ``keep_grown`` are active.

    Only inactive entries are taken in, those that were pruned just now too; lower indices first. With ``program``, as
    the authors' program does it, the largest gradients of all entries are taken: active ones among them become 0, and
    the layer stays smaller than ``keep_grown``.
    """
    left = pruned_to(weights, active, keep_pruned)
    missing = max(0, min(keep_grown, active.size) - int(np.count_nonzero(left)))
    keys = magnitudes(gradient) + np.uint32(1)
    if not program:
        keys = np.where(left, np.uint32(0), keys)
    grown = np.zeros_like(left)
    grown[largest(keys, missing)] = True
    return Readjusted(left, left | grown, left & grown)


def feddst(
    alpha: float = 0.01,
    last_round: int = 0,
    final_density: float = 0.0,
    min_votes: float = 0.0,
) -> Method:
    """Masks are readjusted in rounds 1, 1 + ``reconfigure_every`` and so on, before round ``last_round`` (R_end).

    ``alpha``: the part of what is active that a client gives up at first; ``last_round`` 0: half of all rounds;
    ``final_density``: that from ``last_round`` on, on a line from ``target_density``, 0: as that; ``min_votes``: the
    samples that those who keep a parameter must exceed. Raises ValueError for values out of range.
    """
    if not 0.0 < alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}, allowed are numbers above 0 and at most 1")
    if not 0.0 <= final_density <= 1.0:
        raise ValueError(f"final_density is {final_density}, allowed are numbers from 0 to 1")
    if last_round < 0:
        raise ValueError(f"last_round is {last_round}, allowed are numbers from 0 on")
    if not min_votes >= 0.0:
        raise ValueError(f"min_votes is {min_votes}, allowed are numbers from 0 on")

    def end(setup: Setup) -> int:
        return last_round or max(1, setup.rounds // 2)

    def sparsity(setup: Setup, round_index: int) -> float:
        """S_r."""
        progress = min(1.0, max(0, round_index) / end(setup))
        first = 1.0 - setup.density()
        return first + ((1.0 - final_density if final_density else first) - first) * progress

    def readjusts(setup: Setup, round_index: int) -> bool:
        return (round_index - 1) % setup.config.reconfigure_every == 0 and round_index < end(setup)

    def left(setup: Setup, round_index: int) -> list[int]:
        """The entries of each layer that a client's pruning leaves."""
        wanted = sparsity(setup, round_index)
        return _keeps(setup, wanted + (1.0 - wanted) * decayed(alpha, round_index, end(setup)))

    def first_mask(setup: Setup, weights: NDArray[np.float32]) -> Mask:
        return _pruned_mask(setup, weights, Mask(weights.size), sparsity(setup, 0))

    def init(setup: Setup, mask: Mask) -> State:
        setup.density()
        return State(mask)

    def needs(setup: Setup, state: State, round_index: int) -> Needs:
        if readjusts(setup, round_index):
            return Needs.WEIGHTS | Needs.VOTES
        wanted = sparsity(setup, round_index)
        rises = wanted > sparsity(setup, round_index - 1)
        return Needs.WEIGHTS if rises and _too_many(setup, state.mask, wanted) else Needs.NOTHING

    def own_mask(
        setup: Setup,
        round_index: int,
        weights: NDArray[np.float32],
        gradient: NDArray[np.float32],
        mask: Mask,
    ) -> Mask:
        flags = np.array(mask.flags())
        kept_to, grown_to = left(setup, round_index), _keeps(setup, sparsity(setup, round_index))
        for layer, keep_pruned, keep_grown in zip(setup.prunable, kept_to, grown_to, strict=True):
            of = slice(layer.start, layer.stop)
            flags[of] = readjusted(weights[of], gradient[of], flags[of], keep_pruned, keep_grown).active
        return Mask.of(flags)

    def own_kept(
        setup: Setup,
        round_index: int,
        weights: NDArray[np.float32],
        gradient: NDArray[np.float32],
        mask: Mask,
    ) -> Mask:
        del gradient
        return _pruned_layers(setup, weights, mask, left(setup, round_index))

    def step(setup: Setup, state: State, observation: Observation, draw: Draw) -> tuple[State, Change | None]:
        del draw
        if needs(setup, state, observation.round_index) is Needs.NOTHING:
            return state, None
        weights, before = required(observation.weights, "weights", _NAME), state.mask
        kept = before if observation.votes is None else _voted_mask(setup, observation.votes, min_votes)
        mask = kept
        wanted = sparsity(setup, observation.round_index)
        if _too_many(setup, kept, wanted):
            mask = _pruned_mask(setup, weights, kept, wanted)
        flags, old = mask.flags(), before.flags()
        if np.array_equal(flags, old):
            return state, None
        facts = {
            "active_before": before.count,
            "voted": kept.count,
            "active": mask.count,
            "put_back": int(np.count_nonzero(flags & ~old)),
        }
        return State(mask), Change(mask, facts)

    return Method(
        summary="clients readjust masks of their own by weights and gradients; the server keeps what they voted for",
        source="Bibikar et al., AAAI 2022 (arXiv 2112.09824)",
        init=init,
        needs=needs,
        step=step,
        first_mask=first_mask,
        own_mask=own_mask,
        own_kept=own_kept,
        needs_target_density=True,
        changes="in rounds 1, 1 + reconfigure_every and so on",
    )


def _biases(setup: Setup) -> list[int]:
    """How many biases there are beside the weights of each prunable layer."""
    sizes = {
        getattr(layer, "name", ""): layer.stop - layer.start for layer in setup.layers if not layer.prunable
    }
    names = [str(getattr(layer, "name", "")) for layer in setup.prunable]
    return [sizes.get(f"{name.removesuffix('weight')}bias", 0) for name in names]


def _keeps(setup: Setup, sparsity: float) -> list[int]:
    """keep_l of every prunable layer."""
    return kept_entries(setup.shapes, _biases(setup), sparsity)


def _too_many(setup: Setup, mask: Mask, sparsity: float) -> bool:
    """Whether ``mask`` is less sparse than it should be, and has layers from which entries can be taken."""
    active, sizes = mask.active_per_layer(setup.prunable), setup.sizes
    if 1.0 - active.sum() / sizes.sum() >= sparsity:
        return False
    keeps = np.array(_keeps(setup, sparsity))
    return bool((active > np.where(keeps < 0, sizes, keeps)).any())


def _pruned_mask(setup: Setup, weights: NDArray[np.float32], mask: Mask, sparsity: float) -> Mask:
    return _pruned_layers(setup, weights, mask, _keeps(setup, sparsity))


def _pruned_layers(setup: Setup, weights: NDArray[np.float32], mask: Mask, keeps: Sequence[int]) -> Mask:
    """``mask`` with each prunable layer ``pruned_to`` as many entries as ``keeps`` has for it."""
    flags = np.array(mask.flags())
    for layer, keep in zip(setup.prunable, keeps, strict=True):
        of = slice(layer.start, layer.stop)
        flags[of] = pruned_to(weights[of], flags[of], keep)
    return Mask.of(flags)


def _voted_mask(setup: Setup, votes: NDArray[np.int32], min_votes: float) -> Mask:
    flags = votes > min_votes
    for layer in setup.layers:
        if not layer.prunable:
            flags[layer.start : layer.stop] = True
    return Mask.of(flags)
