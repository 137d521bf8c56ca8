"""The same run on other devices and links, without training: ``fedmpi retime``.

The learning of a run depends on how long its rounds took only where a decision is made by that time. Where none is,
what a trace has recorded (participants, bytes, samples, masks) is what a rerun on any other devices and links would
record, and charging it again gives that rerun's emulated times to the last bit. Nothing here needs torch or MPI.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedmpi.config import Config, ConfigError, dumps, loads, tables, validate
from fedmpi.config.errors import shown_value
from fedmpi.config.parts import is_reference
from fedmpi.config.write import flat
from fedmpi.emulation.devices import Fleet
from fedmpi.experiment.recharging import Charger, Charges
from fedmpi.experiment.recorded import Recorded, read_recorded
from fedmpi.experiment.recorded_work import ModelWork, fleet_of, refuse_foreign
from fedmpi.experiment.resuming import Identity
from fedmpi.experiment.time_decisions import (
    Decision,
    compute_needs_host_time,
    controller_of,
    decisions_by_time,
    recorded_sketch,
)
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


@dataclass(frozen=True)
class Source:
    """A run as it was recorded, with its configuration ``before`` and what in it depended on time."""

    recorded: Recorded
    before: Config
    model: ModelWork | None
    decisions: tuple[Decision, ...]


def opened(path: Path) -> Source:
    """The run at ``path``, a run folder or a trace. ConfigError for one that has not ended; TraceError."""
    recorded = read_recorded(path)
    if recorded.attributes["status"] == "running":
        raise ConfigError("RUN", f"{path} is still running, or was killed", "a run that has ended")
    before = loads(str(recorded.attributes["config_toml"]), origin=f"the configuration in {path}")
    decisions = decisions_by_time(before)
    if recorded.attributes.get("retiming") == APPROXIMATE:
        decisions.append(Decision("RUN", f"{path} was itself retimed approximately"))
    model = ModelWork.of_attributes(recorded.attributes, path)
    return Source(recorded, before, model, tuple(decisions))


def prepare(path: Path, overrides: Sequence[str], approximate: bool = False) -> Retiming:
    """The run at ``path`` (a run folder or a trace) with ``overrides`` of its devices and links, fit to be retimed.

    Raises ConfigError for a key that could change what was learned, for devices and links that cannot be emulated, and,
    unless ``approximate``, for a run in which a decision depended on time; TraceError for a trace that cannot be read.
    """
    source = opened(path)
    named = [text.partition("=")[0].strip() for text in overrides]
    return retiming_of(source, loads(dumps(source.before), overrides), named, approximate)


def retiming_of(
    source: Source, asked: Config, named: Sequence[str] = (), approximate: bool = False
) -> Retiming:
    """A recorded run with the devices and links of ``asked``, and nothing else of it. Raises as ``prepare``.

    ``named``: keys that the caller has set, and so may name code of their own.
    """
    before = source.before
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
    refuse_foreign(config, ["emulation.compute.model"], named)
    if config.emulation.compute.model == "normalized":
        refuse_foreign(config, ["sparsification.method"])
    if source.decisions and not approximate:
        raise source.decisions[0].refusal()
    if approximate and is_reference(before.k_control.method):
        refuse_foreign(before, ["k_control.method"])
    fleet = fleet_of(config, source.model)
    measured = compute_needs_host_time(config) and compute_needs_host_time(before)
    if fleet.compute.model.needs_host_time and not measured:
        problem = (
            f"found {shown_value(config.emulation.compute.model)}, and a trace has no host times of training"
        )
        raise ConfigError("emulation.compute.model", problem, "a model that computes the time of a step")
    return Retiming(source.recorded, before, config, fleet, source.model, changes, source.decisions)


def retimings_of(
    source: Source, asked: Iterable[Config], named: Sequence[str] = (), approximate: bool = False
) -> Iterator[Retiming]:
    """Many retimings of one recorded run, each as ``retiming_of`` gives it but for its ``changes``.

    What differs from the one before in the rates of links and the speed of devices alone is not checked anew: that
    takes several times as long as charging a short run.
    """
    last: Retiming | None = None
    for config in asked:
        if last is not None and _with_links_of(config, last.config) == last.config:
            emulation = replace(config.emulation, clock="virtual", time_scale=1.0)
            config = replace(config, emulation=emulation)
            last = replace(last, config=config, fleet=fleet_of(config, source.model))
        else:
            last = retiming_of(source, config, named, approximate)
        yield last


def _with_links_of(config: Config, other: Config) -> Config:
    """``config`` with the rates, the speed and the clock of ``other``, where all of these are numbers."""
    own, links = config.emulation, other.emulation
    rates = ("uplink_mbit_per_s", "downlink_mbit_per_s")
    if not all(isinstance(getattr(own.network, name), float) for name in rates):
        return config
    network = replace(own.network, **{name: getattr(links.network, name) for name in rates})
    compute = replace(own.compute, speed=links.compute.speed)
    own = replace(own, clock=links.clock, time_scale=links.time_scale)
    return replace(config, emulation=replace(own, network=network, compute=compute))


def write(retiming: Retiming, folder: Path) -> tuple[Path, float]:
    """Charge all rounds again and write the run to ``folder``, which is there: ``config.toml`` and a trace.

    Returns the path of the trace and the emulated moment of its end.
    """
    recorded = retiming.recorded
    charges = charger_of(retiming).all_rounds()
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


def charger_of(retiming: Retiming, recorded: Recorded | None = None) -> Charger:
    """What charges the rounds of a run again; ``recorded``: another part of them than all."""
    before, config = retiming.before, retiming.config
    nothing = np.empty(0, np.int64)
    return Charger(
        retiming.recorded if recorded is None else recorded,
        config,
        retiming.fleet,
        nothing if retiming.model is None else retiming.model.prunable,
        measures_losses=bool(retiming.decisions) and controller_of(before).measures_losses,
        given_compute=_of_measured(before, config) if compute_needs_host_time(config) else None,
        sketch=recorded_sketch(retiming.recorded, before),
    )


def _of_measured(before: Config, config: Config) -> float:
    """What training that was measured takes, as a part of what was recorded of it."""
    old, new = before.emulation.compute, config.emulation.compute
    return (new.slowdown / old.slowdown) * (old.speed / new.speed)


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
