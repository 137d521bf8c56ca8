"""The same run on other devices and links, without training: ``fedmpi retime``.

The learning of a run depends on how long its rounds took only where a decision is made by that time. Where none is,
what a trace has recorded (participants, bytes, samples, masks) is what a rerun on any other devices and links would
record, and charging it again gives that rerun's emulated times to the last bit. Nothing here needs torch or MPI.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from fedmpi.config import Config, ConfigError, dumps, loads, parts, tables, validate
from fedmpi.config.errors import shown_value
from fedmpi.config.parts import is_reference
from fedmpi.config.write import flat
from fedmpi.emulation.compute import ComputeModel
from fedmpi.emulation.devices import Fleet
from fedmpi.experiment.parts import sketch_of
from fedmpi.experiment.recharging import Charger, Charges, Recorded, read_recorded
from fedmpi.experiment.recorded_work import ModelWork, fleet_of, refuse_foreign
from fedmpi.experiment.resuming import Identity
from fedmpi.k_control import Controller
from fedmpi.pruning import Method
from fedmpi.trace import FILE_NAME, Phase, TraceError, TraceWriter
from fedmpi.trace.schema import CALLER_ATTRIBUTES, TABLES

APPROXIMATE, EXACT = "approximate", "exact"
"""Values of the root attribute ``retiming``: whether a decision had seen the time."""

RETIMED = "retimed"
"""The kind of the event that says of what run a trace is, and by what changes; APPROXIMATE is another."""

_MAY_CHANGE = ("emulation.compute.", "emulation.network.", "emulation.energy.", "experiment.name")
_HOST_EVENTS = ("overrun", RETIMED, APPROXIMATE)
"""Kinds of events that were true of the run, or of an earlier retiming, and are not of this one."""


@dataclass(frozen=True)
class Decision:
    """Something in a run that depended on emulated time: the ``key`` that asks for it, and what it did."""

    key: str
    what: str

    def refusal(self) -> ConfigError:
        return ConfigError(
            self.key, self.what, "--approximate, which keeps what was recorded, or a run of its own"
        )


@dataclass(frozen=True)
class Retiming:
    """A run that can be timed again: what is recorded, and the configuration with the new devices and links.

    ``changes``: each key that differs, with its old and its new value; ``decisions``: what depended on time, empty for
    an exact retiming.
    """

    recorded: Recorded
    before: Config
    config: Config
    fleet: Fleet
    model: ModelWork | None
    changes: Mapping[str, tuple[Any, Any]]
    decisions: tuple[Decision, ...]


def decisions_by_time(config: Config) -> list[Decision]:
    """What of a run with this configuration depends on how long its rounds take, in the order in which it matters."""
    found = []
    name = config.k_control.method
    if is_reference(name) or controller_of(config).by_time:
        found.append(Decision("k_control.method", f"{shown_value(name)} chose k by the time of rounds"))
    name = config.pruning.method
    if is_reference(name) or pruning_of(config).by_time:
        found.append(Decision("pruning.method", f"{shown_value(name)} chose masks by the time of rounds"))
    federation, availability = config.federation, config.emulation.availability
    if config.pruning.initial.where != "none":
        found.append(
            Decision(
                "pruning.initial.where",
                f"{shown_value(config.pruning.initial.where)}: masks were chosen by the time of rounds",
            )
        )
    if federation.deadline_s < inf:
        found.append(
            Decision("federation.deadline_s", f"{federation.deadline_s:g}: who was late was left out")
        )
    if federation.over_selection:
        what = f"{federation.over_selection:g}: the first arrivals were taken"
        found.append(Decision("federation.over_selection", what))
    if availability.model != "always":
        what = f"{shown_value(availability.model)} said who was available when a round began"
        found.append(Decision("emulation.availability.model", what))
    if availability.dropout_probability:
        what = (
            f"{availability.dropout_probability:g}: participants vanished at a fraction of their round's time"
        )
        found.append(Decision("emulation.availability.dropout_probability", what))
    if config.experiment.stop_at_emulated_s is not None:
        what = f"{config.experiment.stop_at_emulated_s:g}: the run was to end at a time"
        found.append(Decision("experiment.stop_at_emulated_s", what))
    if compute_needs_host_time(config):
        what = f"{shown_value(config.emulation.compute.model)}: training took what it took on the host"
        found.append(Decision("emulation.compute.model", what))
    return found


def controller_of(config: Config) -> Controller:
    """The controller of k, built in."""
    section = config.k_control
    return parts.build("k_control.method", section.method, section.options, Controller)


def recorded_sketch_bytes(recorded: Recorded, config: Config) -> int:
    """Bytes of what the messages of a run of ``config`` stated of magnitudes."""
    if is_reference(config.k_control.method):
        return 0
    sketch = sketch_of(config, controller_of(config), int(recorded.attributes["parameters"]))
    return 0 if sketch is None else sketch.bytes


def pruning_of(config: Config) -> Method:
    """The pruning method, built in."""
    section = config.pruning
    return parts.build("pruning.method", section.method, section.options, Method)


def compute_needs_host_time(config: Config) -> bool:
    """Whether training is timed here, by a built-in compute model."""
    section = config.emulation.compute
    if is_reference(section.model):
        return False
    built = parts.build("emulation.compute.model", section.model, section.options, ComputeModel)
    return built.needs_host_time


def prepare(path: Path, overrides: Sequence[str], approximate: bool = False) -> Retiming:
    """The run at ``path`` (a run folder or a trace) with ``overrides`` of its devices and links, fit to be retimed.

    Raises ConfigError for a key that could change what was learned, for devices and links that cannot be emulated, and,
    unless ``approximate``, for a run in which a decision depended on time; TraceError for a trace that cannot be read.
    """
    recorded = read_recorded(path)
    if recorded.attributes["status"] == "running":
        raise ConfigError("RUN", f"{path} is still running, or was killed", "a run that has ended")
    before = loads(str(recorded.attributes["config_toml"]), origin=f"the configuration in {path}")
    asked = loads(dumps(before), overrides)
    changes = _changes(before, asked)
    for key, (_, new) in changes.items():
        if not key.startswith(_MAY_CHANGE):
            problem = f"found {shown_value(new)}, and retiming keeps what was learned"
            raise ConfigError(
                key, problem, "keys of [emulation.compute], [emulation.network], [emulation.energy]"
            )
    # Nothing waits: the trace is that of a run under the virtual clock.
    config = replace(asked, emulation=replace(asked.emulation, clock="virtual", time_scale=1.0))
    validate(config)
    named = [text.partition("=")[0].strip() for text in overrides]
    refuse_foreign(config, ["emulation.compute.model"], named)
    if config.emulation.compute.model == "normalized":
        refuse_foreign(config, ["sparsification.method"])
    decisions = decisions_by_time(before)
    if recorded.attributes.get("retiming") == APPROXIMATE:
        decisions.append(Decision("RUN", f"{path} was itself retimed approximately"))
    if decisions and not approximate:
        raise decisions[0].refusal()
    if approximate and is_reference(before.k_control.method):
        refuse_foreign(before, ["k_control.method"])
    model = ModelWork.of_attributes(recorded.attributes, path)
    fleet = fleet_of(config, model)
    measured = compute_needs_host_time(config) and compute_needs_host_time(before)
    if fleet.compute.model.needs_host_time and not measured:
        problem = (
            f"found {shown_value(config.emulation.compute.model)}, and a trace has no host times of training"
        )
        raise ConfigError("emulation.compute.model", problem, "a model that computes the time of a step")
    return Retiming(recorded, before, config, fleet, model, changes, tuple(decisions))


def write(retiming: Retiming, folder: Path) -> tuple[Path, float]:
    """Charge all rounds again and write the run to ``folder``, which is there: ``config.toml`` and a trace.

    Returns the path of the trace and the emulated moment of its end.
    """
    recorded = retiming.recorded
    charges = _charger(retiming).all_rounds()
    (folder / "config.toml").write_text(dumps(retiming.config), encoding="utf-8")
    identity = Identity.of_new_run(retiming.config)
    attributes = {name: recorded.attributes[name] for name in CALLER_ATTRIBUTES} | identity.values()
    attributes["config_toml"] = dumps(retiming.config)
    attributes["retimed_from"] = str(recorded.attributes.get("run_id", ""))
    attributes["retiming"] = APPROXIMATE if retiming.decisions else EXACT
    if retiming.model is not None:
        attributes["model_work"] = retiming.model.to_text()
    path = folder / FILE_NAME
    writer = TraceWriter.create(path, attributes)
    try:
        writer.append(devices=_devices(retiming))
        _append(writer, recorded, charges)
        for kind, detail, facts in _words(retiming):
            first = int(recorded.rounds["round"][0]) if len(recorded.rounds) else 0
            writer.append(
                events={"round": first, "time_s": 0.0, "kind": kind, "detail": detail, "details": facts}
            )
        writer.close(str(recorded.attributes["status"]))
    except BaseException:
        writer.close("failed")
        raise
    return path, float(charges.end_s[-1]) if len(charges.end_s) else 0.0


def _charger(retiming: Retiming) -> Charger:
    before = retiming.before
    nothing = np.empty(0, np.int64)
    return Charger(
        retiming.recorded,
        retiming.config,
        retiming.fleet,
        nothing if retiming.model is None else retiming.model.prunable,
        measures_losses=bool(retiming.decisions) and controller_of(before).measures_losses,
        given_compute=compute_needs_host_time(retiming.config),
        sketch_bytes=recorded_sketch_bytes(retiming.recorded, before),
    )


def _changes(before: Config, asked: Config) -> dict[str, tuple[Any, Any]]:
    """The keys with other values, in the order of the schema."""
    old, new = flat(tables(before)), flat(tables(asked))
    return {key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)}


def _devices(retiming: Retiming) -> dict[str, Any]:
    fleet, known = retiming.fleet, retiming.recorded.tables["devices"]
    if len(known) != len(fleet.device_names):
        raise TraceError(
            f"{retiming.recorded.path}: damaged: the table devices has {len(known)} rows of "
            f"{len(fleet.device_names)} clients"
        )
    same = ("client", "samples", "test_samples", "labels", "writers")
    return {name: known[name] for name in same} | device_columns(fleet)


def device_columns(fleet: Fleet) -> dict[str, Any]:
    """The emulated columns of ``devices``, in client order."""
    return {
        "device": list(fleet.device_names),
        "uplink_bytes_per_s": fleet.uplink.bytes_per_s,
        "downlink_bytes_per_s": fleet.downlink.bytes_per_s,
        "latency_s": fleet.latency_s,
    }


def _append(writer: TraceWriter, recorded: Recorded, charges: Charges) -> None:
    """All tables but ``devices``, with the emulated columns of ``charges``."""
    columns = {
        table: {name: recorded.tables[table][name] for name in TABLES[table].names or ()}
        for table in ("rounds", "clients", "client_tests", "layers")
    }
    initial = recorded.rounds["phase"] == Phase.INITIAL_PRUNING  # a server that prunes has no rows of clients
    sums: dict[str, Any] = {}
    for name in ("bytes_up", "bytes_down"):
        total = np.concatenate([[0], np.cumsum(charges.columns[name])])
        sent = total[recorded.bounds[1:]] - total[recorded.bounds[:-1]]
        sums[name] = np.where(initial, recorded.rounds[name], sent)
    columns["rounds"] |= {"start_s": charges.start_s, "end_s": charges.end_s, **sums}
    nothing = np.full(len(recorded.clients), np.nan)
    columns["clients"] |= {**charges.columns, "overrun_s": nothing, "released_s": nothing}
    writer.append(**{name: columns[name] for name in ("clients", "client_tests", "layers", "rounds")})
    events = recorded.tables["events"]
    events = events[~np.isin(events["kind"], [kind.encode() for kind in _HOST_EVENTS])]
    if len(events):
        writer.append(
            events={
                "round": events["round"],
                "time_s": event_moments(recorded, events, charges.start_s, charges.end_s),
                "kind": [kind.decode() for kind in events["kind"].tolist()],
                "detail": [detail.decode() for detail in events["detail"].tolist()],
                "details": [json.loads(facts or b"{}") for facts in events["details"].tolist()],
            }
        )


def event_moments(
    recorded: Recorded, events: np.ndarray, start_s: np.ndarray, end_s: np.ndarray
) -> np.ndarray:
    """The emulated moment of each of ``events``, float64: the end of its round, of an idle time the start.

    ``start_s`` and ``end_s`` (R,) are those of the rounds. What happened before the first round has ended, and after
    the last one, has the moment of the nearest end; 0 without any rounds.
    """
    if not len(recorded.rounds):
        return np.zeros(len(events))
    place = np.clip(events["round"] - recorded.rounds["round"][0], 0, len(recorded.rounds) - 1)
    return np.where(events["kind"] == b"idle", start_s[place], end_s[place])


def _words(retiming: Retiming) -> list[tuple[str, str, dict[str, Any]]]:
    """What the trace says of its own making: kind, words, facts of each event."""
    run_id = str(retiming.recorded.attributes.get("run_id", "")) or str(retiming.recorded.path)
    changed = ", ".join(
        f"{key} {shown_value(old)} -> {shown_value(new)}" for key, (old, new) in retiming.changes.items()
    )
    facts = {key: new for key, (_, new) in retiming.changes.items()}
    words = [(RETIMED, f"run {run_id[:8]} with {changed or 'nothing changed'}", {"run": run_id, **facts})]
    if retiming.decisions:
        kept = "; ".join(f"{decision.key} {decision.what}" for decision in retiming.decisions)
        keys = [decision.key for decision in retiming.decisions]
        words.append((APPROXIMATE, f"kept as recorded: {kept}", {"kept": keys}))
    return words
