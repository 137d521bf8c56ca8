"""What the two ways of exchanging updates, dense and sparse, have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.federation.messages import RoundPlan
from fedmpi.learning.training import LocalResult
from fedmpi.sparsification.magnitude_sketch import MagnitudeSketch
from fedmpi.sparsification.uploads import Uploads


@dataclass(frozen=True)
class Trained:
    """One participant after its training on this rank.

    ``entries`` is the number of values that it sends, ``message_bytes`` the length of its message (0: none),
    ``max_abs`` its largest |update| (not finite: to be rejected).
    """

    result: LocalResult
    compute_host_s: float
    entries: int
    message_bytes: int
    max_abs: float


@dataclass(frozen=True)
class TrainedBatch:
    """Clients that were trained together: ``positions`` (c,) among those that were asked for, and what each did.

    ``samples``, ``losses``, ``probe_samples`` (c,) as in ``LocalResult``; ``weights`` and ``directions`` float32 (c, D)
    on the CPU, None where they were not asked for, valid until the next batch and free to be changed; ``host_s``: of
    each client.
    """

    positions: NDArray[np.int64]
    samples: NDArray[np.int64]
    losses: NDArray[np.float64]
    probe_samples: NDArray[np.int64]
    weights: torch.Tensor | None
    directions: torch.Tensor | None
    host_s: float


@dataclass(frozen=True)
class TrainedMany:
    """Participants that were trained together, ``batch``, with what ``Trained`` says of each in arrays (c,)."""

    batch: TrainedBatch
    entries: NDArray[np.int64]
    message_bytes: NDArray[np.int64]
    max_abs: NDArray[np.float64]


@dataclass(frozen=True)
class Roster:
    """A round's participants after the server's verdict, known to every rank.

    ``clients`` are all participants in rising order, ``accepted`` (bool) whose updates are taken, ``sizes``
    their numbers of samples (int64), ``message_bytes`` the lengths of their messages (int64), ``max_abs`` the
    largest magnitude among accepted updates, ``dealt`` who trained whom. ``trained`` (bool): who had trained before it
    stopped; of the others, this round leaves nothing.
    """

    clients: NDArray[np.int64]
    accepted: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    message_bytes: NDArray[np.int64]
    max_abs: float
    dealt: list[NDArray[np.int64]]
    trained: NDArray[np.bool_]

    @property
    def accepted_clients(self) -> NDArray[np.int64]:
        return self.clients[self.accepted]

    def accepted_of(self, rank: int) -> NDArray[np.int64]:
        """The accepted participants that ``rank`` trained, rising."""
        mine = self.dealt[rank]
        return mine[self.accepted[np.searchsorted(self.clients, mine)]]

    def untrained_of(self, rank: int) -> NDArray[np.int64]:
        """The participants dealt to ``rank`` that stopped before they had trained, rising."""
        mine = self.dealt[rank]
        return mine[~self.trained[np.searchsorted(self.clients, mine)]]


@dataclass(frozen=True)
class Exchanged:
    """What an exchange did. Only the server's fields are meaningful, but w has changed alike on every rank.

    ``changed`` holds the int32 coordinates of w that may have changed (None: all), ``k_down`` the number of
    values sent down, ``k_down_probe`` how many they would have been with the probe's k, ``entries_used`` (int64,
    participants) how many of each client's values went into the update, ``bytes_down`` the length of the message
    down, ``probe_bytes`` what the probe adds to it. ``energies`` float64 (P,): the mean of the accepted clients'
    sketches, weighted by samples; None where messages carry none, and where nobody was accepted. ``uploads``: what the
    server got of accepted clients, valid until the next round; None where it did not look at them one by one, or there
    were none; they are gradients times ``upload_rate``. ``votes`` int32 (D,): the samples of the accepted clients whose
    own masks kept an entry; None unless they had any.
    """

    changed: NDArray[np.int32] | None
    k_down: int
    k_down_probe: int
    entries_used: NDArray[np.int64]
    bytes_down: int
    probe_bytes: int
    energies: NDArray[np.float64] | None = None
    uploads: Uploads | None = None
    upload_rate: float = 1.0
    votes: NDArray[np.int32] | None = None


class Exchange(Protocol):
    """One way of getting from trained clients to a new global model. All methods run on every rank.

    It follows the masks of the ``MaskedModel`` whose weights it changes.

    ``period``: in every so many rounds one exchanges something, the last of them. Participants stay the same for
    a period, and download at its start.
    """

    period: int

    @property
    def sketch(self) -> MagnitudeSketch:
        """What messages say of the magnitudes of all values, behind those that are sent; of 0 bytes: nothing."""

    @property
    def dimension(self) -> int:
        """Among how many coordinates the values of a message are, under the present mask."""

    def bytes_by_size(self, entries: int, down: bool = False) -> tuple[float, float]:
        """Bytes of a message of so many values whatever is pruned, and those for every active prunable parameter.

        Up, or ``down``.
        """

    def begin(self, plan: RoundPlan, mine: NDArray[np.int64]) -> None:
        """A round starts in which this rank trains the clients ``mine``."""

    def train(self, client: int, plan: RoundPlan) -> Trained:
        """Train one of them and keep what it will send."""

    def train_many(self, plan: RoundPlan) -> Iterator[TrainedMany]:
        """The same for all of them, in batches (``ClientHost.train_many``)."""

    def finish(self, plan: RoundPlan, roster: Roster) -> Exchanged:
        """Exchange, aggregate and apply: w changes alike on every rank."""

    def message_bytes_up(self, entries: int) -> int:
        """The bytes of the message of a client that sends so many values (0: no message)."""

    def message_bytes_down(self, k_down: int) -> int:
        """The bytes of a message with ``k_down`` values of the update."""

    def weights_tried(self) -> Iterator[tuple[Literal["previous", "probe"], torch.Tensor]]:
        """For the choice of k after ``finish``: ("previous", w(m-1)), and ("probe", w'(m)) that the probe would give.

        One vector (D + B,), which is another when the next is asked for.
        """

    def client_state(self, client: int) -> dict[str, NDArray[Any]]:
        """What a client carries from round to round, for a checkpoint."""

    def restore_client(self, client: int, state: dict[str, NDArray[Any]]) -> None:
        """Take back what ``client_state`` gave."""

    def server_state(self) -> dict[str, NDArray[Any]]:
        """What the server itself carries from round to round, for a checkpoint."""

    def restore_server(self, state: dict[str, NDArray[Any]]) -> None:
        """Take back what ``server_state`` gave."""
