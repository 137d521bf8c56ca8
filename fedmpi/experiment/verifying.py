"""Whether the emulated columns of a trace follow from the bytes and devices in it: ``fedmpi verify``.

Every round is charged again from the recorded end of the one before, so that a wrong value stays in its round. Nothing
here needs torch or MPI.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.config import Config, loads
from fedmpi.config.parts import is_reference
from fedmpi.emulation.availability import Availability
from fedmpi.emulation.devices import Fleet
from fedmpi.emulation.round_end import may_stop_early
from fedmpi.experiment.differences import Difference, client_named, compared, round_named
from fedmpi.experiment.recharging import SECONDS, Charger, Charges
from fedmpi.experiment.recorded import Recorded, read_recorded
from fedmpi.experiment.recorded_work import TRUSTED, ModelWork, fleet_of, refuse_foreign
from fedmpi.experiment.replaying import Replay, Replayed
from fedmpi.experiment.retiming import (
    APPROXIMATE,
    RETIMED,
    device_columns,
    event_moments,
)
from fedmpi.experiment.time_decisions import (
    compute_needs_host_time,
    controller_of,
    pruning_of,
    recorded_sketch,
)
from fedmpi.experiment.verifying_starts import availability_of, starts_of
from fedmpi.experiment.whole_work import WholeWork, whole_samples
from fedmpi.sparsification import Method
from fedmpi.sparsification.settings import exchange_period, method_of
from fedmpi.trace import Phase, Status, TraceError
from fedmpi.trace.schema import names

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_COMPARED = (*SECONDS, "bytes_down", "bytes_up")


@dataclass(frozen=True)
class Verification:
    """``damage``: what is wrong with the file itself, "" for nothing. ``rounds``: how many were charged again, of all;
    ``notes``: what could not be."""

    damage: str
    differences: tuple[Difference, ...]
    rounds: int
    all_rounds: int
    notes: tuple[str, ...]


def verify(path: Path, trust: tuple[str, ...] = ()) -> Verification:
    """Compare every emulated value of the trace at ``path``, or in a run folder, with what follows from the others.

    ``trust``: keys whose part, code of one's own, may be imported by its name in the trace. Raises TraceError where
    nothing can be read, ConfigError and EmulationError where devices and links of the trace cannot be had any more.
    """
    damage = ""
    try:
        recorded = read_recorded(path)
    except TraceError as error:
        damage = str(error)
        try:
            recorded = read_recorded(path, checked=False)
        except TraceError as unreadable:
            raise unreadable from error
    config = loads(str(recorded.attributes["config_toml"]), origin=f"the configuration in {path}")
    refuse_foreign(config, ["emulation.compute.model"], trust, TRUSTED)
    if config.emulation.compute.model == "normalized":
        refuse_foreign(config, ["sparsification.method"], trust, TRUSTED)
    model = ModelWork.of_attributes(recorded.attributes, path)
    fleet = fleet_of(config, model)
    availability = availability_of(config, trust)
    method = _method(config, trust)
    period = None
    if method is not None and not _approximate(recorded):
        period = exchange_period(config.sparsification, method, int(recorded.attributes["parameters"]))
    starts_s, started = starts_of(recorded, config, availability, period)
    charged = _charged(recorded, config, fleet, model, availability, method, starts_s)
    notes = list(charged.notes)
    if availability is None:
        notes.append("who was available: code of one's own, emulation.availability.model (--trust)")
    differences = [
        *_devices(recorded, device_columns(fleet)),
        *started,
        *charged.differences,
        *_sums(recorded),
        *_events(recorded),
    ]
    known = charged.known
    return Verification(damage, tuple(differences), int(known.sum()), len(known), tuple(notes))


def _method(config: Config, trust: tuple[str, ...]) -> Method | None:
    """That of sparsification; None where a trace is not trusted to name it."""
    foreign = is_reference(config.sparsification.method) and "sparsification.method" not in trust
    return None if foreign else method_of(config.sparsification)


def _approximate(recorded: Recorded) -> bool:
    return recorded.attributes.get("retiming") == APPROXIMATE


@dataclass(frozen=True)
class _Charged:
    """What differs in rounds that were charged again, those that are ``known`` (R,), and why others are not."""

    known: BoolArray
    notes: tuple[str, ...]
    differences: tuple[Difference, ...]


def _charged(
    recorded: Recorded,
    config: Config,
    fleet: Fleet,
    model: ModelWork | None,
    availability: Availability | None,
    method: Method | None,
    starts_s: FloatArray,
) -> _Charged:
    measured = compute_needs_host_time(config)
    ends_again = may_stop_early(config) and method is not None and not _approximate(recorded)
    sketch = recorded_sketch(recorded, config)
    charger = Charger(
        recorded,
        config,
        fleet,
        np.empty(0, np.int64) if model is None else model.prunable,
        measures_losses=not is_reference(config.k_control.method) and controller_of(config).measures_losses,
        given_compute=1.0 if measured else None,
        sketch=sketch,
        samples=whole_samples(recorded, config) if ends_again else None,
    )
    known, notes = _followed(recorded, config, ends_again)
    differences: list[Difference] = []
    if ends_again and method is not None:
        whole_work = WholeWork(charger, method, sketch.bytes, measured)
        replayed = Replay(charger, whole_work, availability).rounds_from(starts_s)
        charges, known = replayed.charges, known & replayed.known
        notes += replayed.notes
        differences += _become(recorded, replayed, known)
    else:
        charges = charger.rounds_from(starts_s)
    if measured:
        notes.append("compute_s is what was measured on the host: taken as recorded")
    differences += _times(recorded, charger, charges, known)
    return _Charged(known, tuple(notes), tuple(differences))


def _followed(recorded: Recorded, config: Config, ends_again: bool) -> tuple[BoolArray, list[str]]:
    """The rounds (R,) whose times follow from what is recorded of them, and why others do not.

    ``ends_again``: who is late or dropped in a round is found out anew.
    """
    rounds, notes = recorded.rounds, []
    known = np.ones(len(rounds), np.bool_)
    federated = rounds["phase"] == Phase.FEDERATED
    if _approximate(recorded):
        return ~known, ["times are approximate: the run was retimed so"]
    stopped = np.zeros(len(rounds), np.bool_)
    if not ends_again:
        early = np.concatenate([[0], np.cumsum(~recorded.staying)])
        stopped = (early[recorded.bounds[1:]] > early[recorded.bounds[:-1]]) & federated
    if stopped.any():
        who = "in which somebody was late or dropped, whose messages are code of one's own"
        notes.append(f"{_rounds(stopped)} {who}, sparsification.method (--trust)")
    control, pruning = config.k_control.method, config.pruning.method
    losses = np.zeros(len(rounds), np.bool_)
    if is_reference(control):
        losses = federated
    elif controller_of(config).measures_losses:
        losses = federated & ~(_some_had_the_model(recorded) & (pruning == "none"))
    elif is_reference(pruning) or pruning_of(config).probe is not None:
        events = recorded.tables["events"]
        losses = np.isin(rounds["round"], events["round"][events["kind"] == b"pruning"]) & federated
    if losses.any():
        notes.append(f"{_rounds(losses)} with losses, whose bytes are recorded in sums with others")
    return known & ~stopped & ~losses, notes


def _rounds(which: BoolArray) -> str:
    count = int(which.sum())
    return f"{count:,} round{'' if count == 1 else 's'}"


def _some_had_the_model(recorded: Recorded) -> BoolArray:
    """Whether somebody stayed in a round (R,) who had stayed in the one before, and so had the model after it."""
    found = np.zeros(len(recorded.rounds), np.bool_)
    staying, before = recorded.staying, np.empty(0, np.int64)
    for place, (start, stop) in enumerate(pairwise(recorded.bounds.tolist())):
        stayed = recorded.clients["client"][start:stop][staying[start:stop]]
        found[place] = np.isin(stayed, before).any()
        before = stayed
    return found


def _devices(recorded: Recorded, columns: dict[str, Any]) -> Iterator[Difference]:
    rows = recorded.tables["devices"]
    if len(rows) != len(columns["device"]):
        yield Difference("devices", "all", "client", len(rows), len(columns["device"]))
        return
    for name, values in columns.items():
        found = np.array([text.decode() for text in rows[name].tolist()]) if name == "device" else rows[name]
        yield from compared("devices", "client {}".format, name, found, np.asarray(values))


def _times(recorded: Recorded, charger: Charger, charges: Charges, known: BoolArray) -> Iterator[Difference]:
    """When rounds end, and what participants took, sent and received."""
    rounds, clients = recorded.rounds, recorded.clients
    yield from compared("rounds", round_named(rounds), "end_s", rounds["end_s"], charges.end_s, known)
    rows, named = np.repeat(known, np.diff(recorded.bounds)), client_named(clients)
    for name in _COMPARED:
        yield from compared("clients", named, name, clients[name], charges.columns[name], rows)
    # Energy follows from the seconds that are there, also where these follow from nothing.
    energy = charger.energy_of({name: clients[name] for name in SECONDS})
    yield from compared("clients", named, "energy_j", clients["energy_j"], energy)


def _become(recorded: Recorded, replayed: Replayed, known: BoolArray) -> Iterator[Difference]:
    """What became of participants, and of what each that had not stopped would have trained on and sent."""
    clients, named = recorded.clients, client_named(recorded.clients)
    federated = recorded.rounds["phase"] == Phase.FEDERATED
    rows = np.repeat(known & federated, np.diff(recorded.bounds))
    status, computed = _status_names(clients["status"]), _status_names(replayed.status)
    yield from compared("clients", named, "status", status, computed, rows)
    for name, values in (("samples", replayed.samples), ("entries_sent", replayed.entries_sent)):
        yield from compared("clients", named, name, clients[name], values, rows)


def _status_names(codes: np.ndarray) -> np.ndarray:
    known = dict(enumerate(names(Status)))
    present, which = np.unique(codes, return_inverse=True)
    return np.array([known.get(code, f"{code}") for code in present.tolist()], str)[which]


def _sums(recorded: Recorded) -> Iterator[Difference]:
    """What ``rounds`` says of all participants, and ``layers`` of all parameters."""
    rounds, clients, bounds = recorded.rounds, recorded.clients, recorded.bounds
    at_clients = (rounds["phase"] == Phase.FEDERATED) | (rounds["participants"] > 0)
    named = round_named(rounds)

    def summed(values: np.ndarray) -> np.ndarray:
        total = np.concatenate([[0], np.cumsum(values.astype(np.int64))])
        return np.asarray(total[bounds[1:]] - total[bounds[:-1]])

    computed = {
        "participants": np.diff(bounds),
        "dropped": summed(clients["status"] != Status.OK),
        "bytes_up": summed(clients["bytes_up"]),
        "bytes_down": summed(clients["bytes_down"]),
    }
    for name, values in computed.items():
        yield from compared("rounds", named, name, rounds[name], values, at_clients)
    active = recorded.active.sum(axis=1)[recorded.mask_of]
    yield from compared("rounds", named, "active_parameters", rounds["active_parameters"], active)


def _events(recorded: Recorded) -> Iterator[Difference]:
    rounds, events = recorded.rounds, recorded.tables["events"]
    if not len(rounds):
        return
    own = np.isin(events["kind"], (RETIMED.encode(), APPROXIMATE.encode()))
    inside = (events["round"] >= 0) & (events["round"] <= rounds["round"][-1]) & ~own
    moments = event_moments(recorded, events, rounds["start_s"], rounds["end_s"])

    def named(place: int) -> str:
        return f"round {events['round'][place]} {events['kind'][place].decode()}"

    yield from compared("events", named, "time_s", events["time_s"], moments, inside)
