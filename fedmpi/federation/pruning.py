"""Pruning in the rounds: the mask that every rank has, and on the server the method that changes it."""

from __future__ import annotations

from math import nan
from typing import Any

import numpy as np
import torch

from fedmpi.emulation.compute import LocalTraining
from fedmpi.emulation.devices import Fleet
from fedmpi.federation.client import ClientHost
from fedmpi.federation.exchange import Exchange, Roster
from fedmpi.federation.importance import ClientImportance, ImportanceSum
from fedmpi.mpi.collectives import Ranks
from fedmpi.numerics.streams import Purpose, generator
from fedmpi.pruning import Method
from fedmpi.pruning.interface import MASK, Change, Needs, Observation, Setup, State
from fedmpi.pruning.mask import Mask
from fedmpi.pruning.round_time import RoundTime, slowest_client

VALUE_BYTES = 4


class Pruning:
    """The mask of the present round on every rank, applied to all that lives in parameter space.

    ``mask_since`` is the first round of the present mask. ``importance`` is None where the method never asks for it.
    """

    def __init__(
        self,
        ranks: Ranks,
        host: ClientHost,
        exchange: Exchange,
        importance: ClientImportance | None,
    ) -> None:
        self.ranks = ranks
        self.host = host
        self.exchange = exchange
        self.importance = importance
        self.mask = Mask(host.model.parameter_count)
        self.mask_since = 0

    def begin(self, participants: np.ndarray) -> None:
        """A round starts."""
        if self.importance is not None:
            self.importance.begin(participants)

    def gather_importance(self, roster: Roster) -> ImportanceSum:
        """The sum of what the accepted participants have gathered, which they forget (collective)."""
        assert self.importance is not None
        return self.importance.gather(roster)

    def change(self, mask: Mask | None, since: int, clients: list[int]) -> None:
        """Take the server's ``mask`` (None on other ranks) from round ``since`` on (collective).

        Weights that are pruned become zero, and so does what ``clients``, those of this rank that may carry
        state, have accumulated for them.
        """
        self.set(self.share(mask), since)
        self.mask.apply(self.host.weights.numpy()[: self.mask.dimension])
        self.exchange.drop(self.mask, clients)

    def share(self, mask: Mask | None) -> Mask:
        """The server's ``mask`` (None on other ranks), on every rank (collective)."""
        bits = np.empty(-(-self.mask.dimension // 8), np.uint8) if mask is None else mask.to_bits()
        self.ranks.broadcast(bits)
        return Mask.from_bits(bits, self.mask.dimension)

    def set(self, mask: Mask, since: int) -> None:
        """Go on under ``mask``, which the weights already obey."""
        self.mask = mask
        self.mask_since = since
        flags = None if mask.is_full else torch.from_numpy(mask.flags().astype(np.float32))
        self.host.mask = None if flags is None else flags.to(self.host.model.vector.device)
        self.exchange.set_mask(mask)


class Pruner:
    """The pruning method and its state, on the server."""

    def __init__(self, method: Method, setup: Setup, seed: int, dimension: int) -> None:
        self.method = method
        self.setup = setup
        self.seed = seed
        self.state: State = method.init(setup, Mask(dimension))

    @property
    def importance_bytes(self) -> int:
        """What a client adds to its message where importance is asked for: a value of every prunable parameter."""
        return VALUE_BYTES * int(self.setup.sizes.sum())

    def start(self, mask: Mask) -> None:
        """Start the method again, with ``mask`` for round 0."""
        self.state = self.method.init(self.setup, mask)

    def needs(self, round_index: int) -> Needs:
        """What the method wants to know of the round that is about to run."""
        return self.method.needs(self.setup, self.state, round_index)

    def mask_to_try(self, weights: np.ndarray) -> Mask:
        """The smaller mask under which losses are wanted, by the weights (D,) after the round; full for none."""
        probe = self.method.probe
        mask = None if probe is None else probe(self.setup, self.state, weights)
        return Mask(weights.size) if mask is None else mask

    def step(self, observation: Observation) -> Change | None:
        """Tell the method of a finished round."""
        draw = generator(self.seed, Purpose.PRUNING, observation.round_index).random
        self.state, change = self.method.step(self.setup, self.state, observation, draw)
        return change

    def to_dict(self) -> tuple[np.ndarray, dict[str, Any]]:
        """The bits of the mask, and the rest of the state as JSON."""
        values = self.state.to_dict()
        return values.pop(MASK), values

    def restore(self, bits: np.ndarray, values: dict[str, Any]) -> None:
        """Continue from what ``to_dict`` gave."""
        self.state = self.method.state.from_dict({MASK: bits, **values})


def round_time(
    fleet: Fleet,
    participants: np.ndarray,
    steps: np.ndarray,
    compute_s: np.ndarray,
    bytes_up: tuple[float, float],
    bytes_down: tuple[float, float],
    active_prunable: np.ndarray,
    period: int = 1,
) -> RoundTime:
    """T(M) of a round of ``participants`` (n,), that of the slowest of them.

    Each makes ``steps`` (n,) local steps and sends and receives messages of ``bytes_up`` and ``bytes_down``: those of
    any message, and those for every active prunable parameter; where that is only done every ``period`` rounds, a
    round has its share of it. The links of the server are shared evenly, links that vary
    have their means, and TCP starts at once. What a client downloads of rounds that it
    missed is not in it.
    Under a compute model with coefficients steps depend on ``active_prunable`` (L,); under the others they do not, and
    take the ``compute_s`` (n,) of the round.
    """
    count = len(participants)
    if fleet.compute.model.coefficients is not None:
        work = LocalTraining.of(participants, steps, active_prunable, density=nan)
        step_s, step_s_per_parameter = fleet.compute.step_coefficients(work)
    else:
        step_s, step_s_per_parameter = compute_s / steps, np.zeros((count, active_prunable.size))
    up, down = (links.payload_bytes_per_s(participants) for links in (fleet.uplink, fleet.downlink))
    return slowest_client(
        steps,
        step_s,
        step_s_per_parameter,
        (
            2.0 * fleet.uplink.transport.waits * fleet.latency_s[participants]
            + bytes_up[0] / up
            + bytes_down[0] / down
        )
        / period,
        (bytes_up[1] / up + bytes_down[1] / down) / period,
        active_prunable,
    )
