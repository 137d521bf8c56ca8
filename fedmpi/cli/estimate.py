"""What an experiment will cost: the bytes and emulated times of its first round, and of all rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedmpi.config import Config
from fedmpi.emulation.compute import LocalTraining
from fedmpi.emulation.devices import Fleet
from fedmpi.emulation.timeline import Timeline
from fedmpi.experiment.first_k import start as first_state
from fedmpi.experiment.parts import Parts
from fedmpi.federation.accountants import make_accountant
from fedmpi.federation.client_selection import next_start
from fedmpi.federation.importance_pairs import ImportanceForm
from fedmpi.federation.messages import RoundStart
from fedmpi.federation.round_cost import Work, local_steps
from fedmpi.learning.flat import FlatModel, Layer
from fedmpi.pruning import Needs, Setup
from fedmpi.pruning.active_values import ActiveValues, new_mask_bytes
from fedmpi.pruning.mask import Mask
from fedmpi.sparsification import SparseMethod, WireCodec
from fedmpi.sparsification.wire import message_bytes


@dataclass(frozen=True)
class FirstRound:
    """The first round: ``k`` entries of each of ``participants``, bytes of one of them, times of all.

    ``left_out`` names what the run will add to the bytes or times, ``bound`` says that times are upper bounds.
    """

    participants: np.ndarray
    k: int
    bytes_down: int
    bytes_up: int
    timeline: Timeline
    left_out: tuple[str, ...]
    bound: bool


def importance_bytes(parts: Parts, model: FlatModel, k: int) -> tuple[int, str]:
    """What a participant adds to its message where importance is asked for: bytes, and whether they are more or less.

    Of pruned parameters as many are taken to be there as can be, or as a method leaves that needs a density.
    """
    config, layers = parts.config, model.layers
    setup = Setup(config.pruning, config.experiment.rounds, layers)
    form = ImportanceForm(replace(parts.pruning, most_returned=None), setup, config.sparsification.value_type)
    flags = np.ones(model.parameter_count, np.bool_)
    density = config.pruning.target_density if parts.pruning.needs_target_density else 0.0
    for layer in setup.prunable:
        flags[layer.start + int((density or 0.0) * (layer.stop - layer.start)) : layer.stop] = False
    size = form.message_bytes(Mask.of(flags), 0, k)
    if parts.clients_keep_importance:
        return size, ""
    return size, "at most " if parts.pruning.gradient_entries is None else "about "


@dataclass(frozen=True)
class WholeRun:
    """All federated rounds: bytes of all participants together, and emulated time.

    ``assumed`` names what was taken to be so, ``left_out`` what the run will add.
    """

    bytes_down: int
    bytes_up: int
    emulated_s: float
    assumed: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Sizes:
    """Lengths of messages, and how many values are in those of ``k`` entries, when ``present`` says what is active."""

    parts: Parts
    model: FlatModel
    present: Mask
    k: int
    dimension: int

    @classmethod
    def of(cls, parts: Parts, model: FlatModel, present: Mask) -> _Sizes:
        dimension = ActiveValues(present, model.layers).count if parts.sends_all else present.count
        return cls(
            parts,
            model,
            present,
            min(first_k(parts, model.parameter_count, model.layers), dimension),
            dimension,
        )

    @property
    def sent(self) -> int:
        """Values that a client sends in a round in which it sends any."""
        return self.dimension if self.parts.sends_all else self.k

    @property
    def unbounded(self) -> bool:
        """Whether the server may send more than k values of what clients sent."""
        method = self.parts.sparsification
        return isinstance(method, SparseMethod) and not method.at_most_k_down

    def answered(self, clients: int) -> int:
        """Values of the update that comes down; where they are not bounded, as if ``clients`` agreed in nothing."""
        if self.parts.aggregator.dense:
            return self.dimension
        return min(self.dimension, clients * self.sent) if self.unbounded else self.sent

    @property
    def whole_model(self) -> int:
        return message_bytes("dense", self.dimension, self.dimension) + 4 * self.model.buffer_count

    def update(self, values: int) -> int:
        """Bytes of a client's message with so many values of its update."""
        message = self.parts.codec.message_bytes(values, self.dimension) + 4 * self.model.buffer_count
        return message + self.sketch_bytes

    @property
    def mask(self) -> int:
        """Bytes of a message with a mask as large as the present one."""
        return new_mask_bytes(self.present, self.model.layers)

    @property
    def sketch_bytes(self) -> int:
        """Bytes of what a client's message states of the magnitudes of all values."""
        return replace(self.parts.sketch(self.model.parameter_count), dimension=self.dimension).bytes

    def answer(self, values: int) -> int:
        """Bytes of the server's message with so many values of an update."""
        return self.parts.codec_down.message_bytes(values, self.dimension) + 4 * self.model.buffer_count

    def weights(self, values: int) -> int:
        """Bytes of a message with so many weights, float32."""
        codec = self.parts.codec_down
        form = WireCodec(codec.form if isinstance(codec, WireCodec) else "auto")
        return form.message_bytes(values, self.dimension) + 4 * self.model.buffer_count


def first_round(
    parts: Parts, model: FlatModel, fleet: Fleet, sizes: np.ndarray, mask: Mask | None = None
) -> FirstRound:
    """Bytes and emulated times of round 0, as the run's own accountant charges them.

    ``sizes`` (N,) are the clients' samples. Everybody downloads the whole model, with the ``mask`` of the round.
    Jitter, the losses that k is chosen by, and the time of training that is to be ``measured`` are left out. Where the
    time of a round holds the download of its own result, ``unidirectional`` is taken to send as much as clients that
    agree in nothing would get.
    """
    present = Mask(model.parameter_count) if mask is None else mask
    messages = _Sizes.of(parts, model, present)
    sent = 0 if parts.period(model.parameter_count) > 1 else messages.sent
    down = messages.whole_model + (0 if mask is None else new_mask_bytes(mask, model.layers))
    up = messages.update(sent) if sent else 0
    votes = 0 in _rounds_of_votes(messages)
    up += votes * messages.mask
    charges = _charges(messages, fleet, sizes, down, sent, up, votes)
    absent = {
        "jitter": bool(fleet.jitter_s.any()),
        "the time of training, which is measured when it runs": fleet.compute.model.needs_host_time,
        "the losses by which k is chosen": parts.k_control.measures_losses,
    }
    return FirstRound(
        participants=first_participants(parts.config, fleet),
        k=messages.k,
        bytes_down=down,
        bytes_up=up,
        timeline=charges,
        left_out=tuple(name for name, left_out in absent.items() if left_out),
        bound=messages.unbounded and fleet.compute.model.prices_rounds,
    )


def whole_run(
    parts: Parts, model: FlatModel, fleet: Fleet, sizes: np.ndarray, mask: Mask | None = None
) -> WholeRun:
    """What all rounds come to, if each later one has the participants and the k of the first.

    In a later round a client downloads the updates that it missed, on average those of as many rounds as there are
    clients for each participant, as if they had no coordinate in common; or the model, if that is shorter.
    """
    config = parts.config
    first = first_round(parts, model, fleet, sizes, mask)
    messages = _Sizes.of(parts, model, Mask(model.parameter_count) if mask is None else mask)
    participants, rounds = len(first.participants), config.experiment.rounds
    period = parts.period(model.parameter_count)
    missed = config.clients.count / participants
    values = min(messages.dimension, round(missed * messages.answered(participants)))
    update = messages.answer(values) if missed == 1.0 else messages.weights(values)
    later, up = min(messages.whole_model, update), messages.update(messages.sent)
    downloads, uploads = -(-rounds // period), rounds // period

    def duration_s(down: int, sends: bool, mask_up: int = 0) -> float:
        sent = messages.sent if sends else 0
        bytes_up = up + mask_up if sends else 0
        return _charges(messages, fleet, sizes, down, sent, bytes_up, votes=mask_up > 0).duration_s

    if period == 1:
        emulated_s = first.timeline.duration_s + (rounds - 1) * duration_s(later, True)
    else:
        emulated_s = first.timeline.duration_s + (downloads - 1) * duration_s(later, False)
        emulated_s += uploads * duration_s(0, True) + (rounds - downloads - uploads) * duration_s(0, False)
    masks_up, masks_down = 0, 0
    if votes := _rounds_of_votes(messages):
        masks_up, masks_down = len(votes - {0}), len(votes - {rounds - 1})
        emulated_s += masks_up * (duration_s(later, True, messages.mask) - duration_s(later, True))
        emulated_s += masks_down * (duration_s(later + messages.mask, True) - duration_s(later, True))
    pruned = parts.pruning.changes != "never"
    assumed = {
        "k as in the first round": parts.k_control.measures_losses,
        "participants as in the first round": participants < config.clients.count,
        "nothing pruned": pruned and mask is None,
        "density as in the first round": pruned and mask is not None,
        "links as at the start": fleet.uplink.vary or fleet.downlink.vary,
    }
    left_out = {"masks and importance": pruned and not votes}
    return WholeRun(
        bytes_down=participants * (first.bytes_down + (downloads - 1) * later + masks_down * messages.mask),
        bytes_up=participants * (uploads * up + len(votes) * messages.mask),
        emulated_s=emulated_s,
        assumed=tuple(name for name, holds in assumed.items() if holds),
        left_out=(*first.left_out, *(name for name, holds in left_out.items() if holds)),
    )


def first_participants(config: Config, fleet: Fleet) -> np.ndarray:
    """Who takes part in round 0, as the run's server draws them; nobody where nobody is ever available."""
    start = next_start(config, fleet.availability, 0, 0.0)
    return np.empty(0, np.int64) if start is None else start.participants


def _rounds_of_votes(messages: _Sizes) -> set[int]:
    """The rounds in which clients take masks of their own and send them."""
    parts, method = messages.parts, messages.parts.pruning
    if method.own_mask is None:
        return set()
    rounds = parts.config.experiment.rounds
    setup = Setup(parts.config.pruning, rounds, messages.model.layers)
    state = method.init(setup, messages.present)
    return {index for index in range(rounds) if Needs.VOTES in method.needs(setup, state, index)}


def _charges(
    messages: _Sizes, fleet: Fleet, sizes: np.ndarray, down: int, sent: int, up: int, votes: bool = False
) -> Timeline:
    """A round of the first one's participants with ``sent`` values in ``up`` bytes of each, without jitter.

    With ``votes`` each makes one more backward pass on a minibatch.
    """
    parts, model, present = messages.parts, messages.model, messages.present
    config = parts.config
    participants = first_participants(parts.config, fleet)
    batch = config.training.batch_size
    steps = local_steps(config, sizes[participants])
    training = LocalTraining.of(
        participants,
        steps + votes * np.minimum(sizes[participants], batch) / batch,
        present.active_per_layer([layer for layer in model.layers if layer.prunable]),
        density=present.density(model.layers),
        host_s=0.0,
    )
    compute_s = fleet.compute.seconds(training)
    each = np.ones(len(participants), dtype=np.int64)
    start = RoundStart(0, 0.0, participants)
    accountant = make_accountant(
        config,
        replace(fleet, jitter_s=np.zeros_like(fleet.jitter_s)),
        model.parameter_count,
        positions_sent=not parts.sends_all,
    )
    work = Work(down * each, compute_s, sent * each, up * each, messages.sketch_bytes)
    charges = accountant.round(start, work)
    return accountant.close(start, charges, messages.answered(len(participants)) if sent else 0, None)


def initial_round_s(config: Config, model: FlatModel, fleet: Fleet, samples: int) -> float:
    """Emulated seconds of the first local round of initial pruning at its client, on ``samples`` of its samples."""
    steps = samples / config.training.batch_size
    prunable = [layer.stop - layer.start for layer in model.layers if layer.prunable]
    client = np.array([config.pruning.initial.client])
    return float(fleet.compute.seconds(LocalTraining.of(client, steps, prunable, density=1.0))[0])


def first_k(parts: Parts, dimension: int, layers: Sequence[Layer] = ()) -> int:
    """The k of round 0, as its controller starts for a model of ``layers``."""
    return first_state(parts.config, parts.k_control, dimension, parts.fixed_k(dimension), layers).k
