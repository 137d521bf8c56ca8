"""Who may stop early in an experiment's rounds, in words, and deadlines that nobody could keep."""

from __future__ import annotations

from math import inf

import numpy as np

from fedmpi.config import Config, ConfigError
from fedmpi.config.errors import shown_value
from fedmpi.config.schema import asked_clients
from fedmpi.emulation.compute import LocalTraining
from fedmpi.emulation.devices import Fleet
from fedmpi.emulation.intervals import Intervals
from fedmpi.emulation.stepwise import ROUNDING
from fedmpi.experiment.parts import Parts
from fedmpi.federation.accountants import make_accountant
from fedmpi.federation.messages import RoundStart
from fedmpi.federation.round_cost import IntArray, Work, local_steps
from fedmpi.learning.flat import FlatModel


def check_available(config: Config, fleet: Fleet) -> None:
    """Raise ConfigError where no client can ever be asked to take part."""
    if fleet.availability.first_from(0, 0.0) is None:
        name = config.emulation.availability.model
        problem = f"{shown_value(name)} has no client that can be asked, at the start or later"
        raise ConfigError("emulation.availability.model", problem, "clients that are available at times")


def check_deadline(parts: Parts, model: FlatModel, fleet: Fleet, sizes: IntArray) -> None:
    """Raise ConfigError for a deadline that even the fastest client, alone on all links, could not keep.

    What a client downloads is left out, as it may have the model already, and where links vary the highest rate counts.
    Nothing is said where training time is measured, or where pruning makes training and messages shorter.
    """
    config, deadline_s = parts.config, parts.config.federation.deadline_s
    if deadline_s == inf or fleet.compute.model.needs_host_time or parts.pruning.changes != "never":
        return
    clients = np.arange(config.clients.count)
    active = [layer.stop - layer.start for layer in model.layers if layer.prunable]
    compute_s = fleet.compute.seconds(
        LocalTraining.of(clients, local_steps(config, sizes), active, density=1.0, host_s=0.0)
    )
    dimension = model.parameter_count
    sent = dimension
    if not parts.sends_all and config.k_control.method == "fixed":
        sent = min(parts.fixed_k(dimension), dimension)
    elif not parts.sends_all:
        sent = max(1, int(config.k_control.k_min_fraction * dimension))
    if parts.period(dimension) > 1:  # most rounds send nothing
        sent = 0
    sketch_bytes = parts.sketch(dimension).bytes
    up = parts.codec.message_bytes(sent, dimension) + 4 * model.buffer_count + sketch_bytes if sent else 0
    fastest_s = compute_s
    if fleet.compute.model.prices_rounds:
        accountant = make_accountant(config, fleet, dimension, positions_sent=not parts.sends_all)
        each = np.ones(len(clients), dtype=np.int64)
        work = Work(0 * each, compute_s, sent * each, up * each, sketch_bytes)
        fastest_s = accountant.round(RoundStart(0, 0.0, clients), work).work_s
    elif up:
        fastest_s = compute_s + fleet.uplink.transport.waits * fleet.latency_s
        fastest_s += up / fleet.uplink.peak_payload_bytes_per_s(clients)
    if fastest_s.min() > deadline_s * (1.0 + ROUNDING):
        client = int(fastest_s.argmin())
        problem = (
            f"found {deadline_s:.9g}, and the fastest client, {client}, takes {fastest_s[client]:.9g} s to train and "
            f"to send its update"
        )
        raise ConfigError("federation.deadline_s", problem, f"above {fastest_s[client]:.9g}, or inf for none")


def departure_lines(config: Config, fleet: Fleet) -> list[str]:
    """What ``fedmpi check`` says of availability, dropouts, deadlines and over-selection; nothing without any."""
    availability, federation, clients = config.emulation.availability, config.federation, config.clients
    lines = []
    if availability.model != "always":
        there = len(fleet.availability.clients(0, 0.0))
        line = f"  availability {availability.model}: {there} of {clients.count} clients at the start"
        prepared = fleet.availability.setup.prepared
        if isinstance(prepared, Intervals):
            never = clients.count - len(np.unique(prepared.client))
            again = "once" if prepared.period_s == inf else f"again every {prepared.period_s:g} s"
            line += f"; {len(prepared.client)} intervals, {again}; {never} of the clients never"
        lines.append(line)
    if availability.dropout_probability:
        lines.append(f"  a participant vanishes with probability {availability.dropout_probability:g}")
    if federation.over_selection:
        asked = asked_clients(clients.per_round, federation.over_selection)
        lines.append(f"  {asked} clients are asked, and the first {clients.per_round} arrivals count")
    if federation.deadline_s < inf:
        lines.append(f"  a round ends {federation.deadline_s:g} s after its start at the latest")
    if lines and federation.min_updates > 1:
        lines.append(f"  with fewer than {federation.min_updates} updates a round is abandoned")
    return ["", "participants that may stop early:", *lines] if lines else []
