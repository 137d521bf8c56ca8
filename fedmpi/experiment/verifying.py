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
from fedmpi.experiment.recharging import SECONDS, Charger, Recorded, read_recorded
from fedmpi.experiment.recorded_work import ModelWork, fleet_of, refuse_foreign
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
    recorded_sketch_bytes,
)
from fedmpi.trace import Phase, Status, TraceError

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Difference:
    """A value that does not follow: its ``table`` and ``column``, its row in words, what is there and what should."""

    table: str
    row: str
    column: str
    recorded: Any
    computed: Any


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
    refuse_foreign(config, ["emulation.compute.model"], trust)
    if config.emulation.compute.model == "normalized":
        refuse_foreign(config, ["sparsification.method"])
    model = ModelWork.of_attributes(recorded.attributes, path)
    fleet = fleet_of(config, model)
    measured = compute_needs_host_time(config)
    prunable = np.empty(0, np.int64) if model is None else model.prunable
    losses = not is_reference(config.k_control.method) and controller_of(config).measures_losses
    charger = Charger(
        recorded,
        config,
        fleet,
        prunable,
        measures_losses=losses,
        given_compute=1.0 if measured else None,
        sketch_bytes=recorded_sketch_bytes(recorded, config),
    )
    known, notes = _followed(recorded, config)
    if measured:
        notes.append("compute_s is what was measured on the host: taken as recorded")
    differences = [
        *_devices(recorded, device_columns(fleet)),
        *_moments(recorded, config),
        *_charges(recorded, config, charger, known),
        *_sums(recorded),
        *_events(recorded),
    ]
    return Verification(damage, tuple(differences), int(known.sum()), len(known), tuple(notes))


def _followed(recorded: Recorded, config: Config) -> tuple[BoolArray, list[str]]:
    """The rounds (R,) whose times follow from what is recorded of them, and why others do not."""
    rounds, notes = recorded.rounds, []
    known = np.ones(len(rounds), np.bool_)
    federated = rounds["phase"] == Phase.FEDERATED
    if recorded.attributes.get("retiming") == APPROXIMATE:
        return ~known, ["times are approximate: the run was retimed so"]
    stopped = np.zeros(len(rounds), np.bool_)
    early = ~recorded.staying
    for place in range(len(rounds)):
        stopped[place] = early[recorded.bounds[place] : recorded.bounds[place + 1]].any()
    if (stopped & federated).any():
        notes.append(f"{_rounds(stopped & federated)} in which somebody was late or dropped")
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
    return known & ~(stopped & federated) & ~losses, notes


def _rounds(which: BoolArray) -> str:
    count = int(which.sum())
    return f"{count:,} round{'' if count == 1 else 's'}"


def _some_had_the_model(recorded: Recorded) -> BoolArray:
    """Whether somebody in a round (R,) had been in the one before to its end, and so had the model after it."""
    found = np.zeros(len(recorded.rounds), np.bool_)
    staying, before = recorded.staying, np.empty(0, np.int64)
    for place, (start, stop) in enumerate(pairwise(recorded.bounds.tolist())):
        participants = recorded.clients["client"][start:stop]
        found[place] = np.isin(participants, before).any()
        before = participants[staying[start:stop]]
    return found


def _same(recorded: np.ndarray, computed: np.ndarray) -> BoolArray:
    """Equal bit for bit, or both NaN."""
    if recorded.dtype.kind != "f":
        return np.asarray(recorded == computed)
    return np.asarray((recorded == computed) | (np.isnan(recorded) & np.isnan(computed)))


def _compared(
    table: str, names: np.ndarray, column: str, recorded: np.ndarray, computed: np.ndarray, where: Any = True
) -> Iterator[Difference]:
    for place in np.flatnonzero(~_same(recorded, computed) & where).tolist():
        yield Difference(table, str(names[place]), column, recorded[place], computed[place])


def _devices(recorded: Recorded, columns: dict[str, Any]) -> Iterator[Difference]:
    rows = recorded.tables["devices"]
    names = np.array([f"client {client}" for client in range(len(rows))])
    if len(rows) != len(columns["device"]):
        yield Difference("devices", "all", "client", len(rows), len(columns["device"]))
        return
    for name, values in columns.items():
        found = np.array([text.decode() for text in rows[name].tolist()]) if name == "device" else rows[name]
        yield from _compared("devices", names, name, found, np.asarray(values))


def _moments(recorded: Recorded, config: Config) -> Iterator[Difference]:
    """A round starts when the one before ends, or later where nobody was available then."""
    rounds = recorded.rounds
    before = np.concatenate([[0.0], rounds["end_s"]])[: len(rounds)]
    wrong = rounds["start_s"] != before
    if config.emulation.availability.model != "always":
        wrong = ~(rounds["start_s"] >= before)
    yield from _compared("rounds", _numbers(rounds), "start_s", rounds["start_s"], before, wrong)


def _charges(recorded: Recorded, config: Config, charger: Charger, known: BoolArray) -> Iterator[Difference]:
    rounds, clients = recorded.rounds, recorded.clients
    before = np.concatenate([[0.0], rounds["end_s"]])[: len(rounds)]
    starts_s = before if config.emulation.availability.model == "always" else rounds["start_s"]
    charges = charger.rounds_from(np.where(np.isfinite(starts_s), starts_s, 0.0))
    yield from _compared("rounds", _numbers(rounds), "end_s", rounds["end_s"], charges.end_s, known)
    rows = np.repeat(known, np.diff(recorded.bounds))
    names = np.array(
        [f"round {number} client {client}" for number, client in clients[["round", "client"]].tolist()]
    )
    for name in SECONDS:
        yield from _compared("clients", names, name, clients[name], charges.columns[name], rows)
    # Energy follows from the seconds that are there, also where these follow from nothing.
    energy = charger.energy_of({name: clients[name] for name in SECONDS})
    yield from _compared("clients", names, "energy_j", clients["energy_j"], energy)


def _sums(recorded: Recorded) -> Iterator[Difference]:
    """What ``rounds`` says of all participants, and ``layers`` of all parameters."""
    rounds, clients, bounds = recorded.rounds, recorded.clients, recorded.bounds
    at_clients = (rounds["phase"] == Phase.FEDERATED) | (rounds["participants"] > 0)
    names = _numbers(rounds)

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
        yield from _compared("rounds", names, name, rounds[name], values, at_clients)
    active = recorded.active.sum(axis=1)[recorded.mask_of]
    yield from _compared("rounds", names, "active_parameters", rounds["active_parameters"], active)


def _events(recorded: Recorded) -> Iterator[Difference]:
    rounds, events = recorded.rounds, recorded.tables["events"]
    if not len(rounds):
        return
    own = np.isin(events["kind"], (RETIMED.encode(), APPROXIMATE.encode()))
    inside = (events["round"] >= 0) & (events["round"] <= rounds["round"][-1]) & ~own
    moments = event_moments(recorded, events, rounds["start_s"], rounds["end_s"])
    names = np.array([f"round {row['round']} {row['kind'].decode()}" for row in events])
    yield from _compared("events", names, "time_s", events["time_s"], moments, inside)


def _numbers(rounds: np.ndarray) -> np.ndarray:
    return np.array([f"round {number}" for number in rounds["round"].tolist()])
