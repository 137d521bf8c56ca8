"""Deadlines that nobody could keep, and who may stop early in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmpi.config import ConfigError, loads
from fedmpi.emulation.compute import Work
from fedmpi.emulation.devices import Fleet, assign
from fedmpi.experiment.departures import check_deadline, departure_lines
from fedmpi.experiment.parts import resolve

SIZES = np.array([64, 16, 64])
DIMENSION = 1000

CONFIG = """
[clients]
count = 3
[training]
batch_size = 32
[emulation.compute]
model = "unit"
unit_s = 2.0
[emulation.network]
uplink_mbit_per_s = [0.008, 0.016, 0.008]
latency_s = 0.5
"""
"""Training takes 2 s; 1000 or 2000 bytes a second up, half a second later."""


@dataclass(frozen=True)
class Layer:
    start: int
    stop: int
    prunable: bool = True


WORK = Work((1200.0, 800.0), (600, 400), 0.0, 500.0, DIMENSION)


class Model:
    layers = (Layer(0, 600), Layer(600, DIMENSION))
    parameter_count, buffer_count = DIMENSION, 5


def check(deadline_s: float, *overrides: str) -> None:
    config = loads(CONFIG, [f"federation.deadline_s={deadline_s}", *overrides])
    model: Any = Model()
    check_deadline(resolve(config), model, assign(config, 0, WORK), SIZES)


SPARSE = ["sparsification.method=unidirectional", "sparsification.wire=coo"]
NORMALIZED = [
    *("emulation.compute.model=normalized", "emulation.compute.beta=4.0"),
    *("emulation.network.uplink_mbit_per_s=inf", "emulation.network.latency_s=0"),
]


@pytest.mark.parametrize(
    ("overrides", "fastest_s", "client"),
    [
        ([], 2.0 + 0.5 + (16 + 4000 + 20) / 2000, 1),
        ([*SPARSE, "sparsification.k=100"], 2.0 + 0.5 + (16 + 800 + 20) / 2000, 1),
        (
            [*SPARSE, "k_control.method=ogd_sign", "k_control.k_min_fraction=0.05"],
            2.0 + 0.5 + (16 + 400 + 20) / 2000,
            1,
        ),
        ([*SPARSE, "k_control.method=ogd_sign", "k_control.k_min_fraction=0.0001"], 2.5 + 44 / 2000, 1),
        (["sparsification.method=fedavg", "sparsification.k_fraction=0.1"], 2.0, 0),
        (["emulation.network.connection=new", "emulation.network.transport=tcp"], None, 1),
        ([*NORMALIZED, *SPARSE, "sparsification.k=100"], 1.0 + 4.0 * 200 / 2000, 0),
        (NORMALIZED, 1.0 + 4.0 / 2, 0),
    ],
)
def test_a_deadline_below_the_fastest_client_is_refused(
    overrides: list[str], fastest_s: float | None, client: int
) -> None:
    """Its training, its latency and its message alone on the link."""
    if fastest_s is None:  # a connection waits for three latencies, and headers make messages longer
        fastest_s = 2.0 + 3 * 0.5 + (16 + 4000 + 20) / (2000 * 1448 / 1500)
    check(fastest_s * 1.0001, *overrides)
    with pytest.raises(ConfigError) as caught:
        check(fastest_s * 0.999, *overrides)
    said = str(caught.value)
    found = re.fullmatch(
        rf"\[federation\] deadline_s: found (\S+), and the fastest client, {client}, takes (\S+) s to train and to "
        rf"send its update; allowed: above (\S+), or inf for none",
        said,
    )
    assert found is not None, said
    assert [float(number) for number in found.groups()] == pytest.approx(
        [fastest_s * 0.999, fastest_s, fastest_s]
    )


def test_training_counts_by_the_samples_of_each_client(tmp_path: Path) -> None:
    """Client 1 has half a batch, and all are the same device."""
    path = tmp_path / "alike.csv"
    path.write_text(
        "name,uplink_mbit_per_s,downlink_mbit_per_s,latency_s,overhead_s,flops_per_s\n"
        + "alike,1,1,0,1e-8,2e9\n" * 3,
        encoding="utf-8",
    )
    flops = ["emulation.compute.model=flops", f"emulation.compute.profile={path}"]
    free = ["emulation.network.uplink_mbit_per_s=inf", "emulation.network.latency_s=0"]
    with pytest.raises(ConfigError, match="the fastest client, 1, takes"):
        check(1e-9, *flops, *free)


@pytest.mark.parametrize(
    "overrides",
    [
        ["emulation.compute.model=measured"],
        ["pruning.method=prunefl"],
        ["federation.deadline_s=inf"],
    ],
)
def test_nothing_is_said_where_times_are_not_known_beforehand(overrides: list[str]) -> None:
    check(1e-6, *overrides)


def lines_of(*overrides: str) -> list[str]:
    config = loads(CONFIG, list(overrides))
    fleet: Fleet = assign(config, 0)
    return departure_lines(config, fleet)


def test_nothing_is_said_where_nobody_stops_early() -> None:
    assert lines_of() == []
    assert lines_of("federation.min_updates=2") == []


def test_who_may_stop_early_in_words() -> None:
    found = lines_of(
        *("federation.deadline_s=9.5", "federation.over_selection=0.5", "clients.per_round=2"),
        *("federation.min_updates=2", "emulation.availability.dropout_probability=0.25"),
    )
    assert found == [
        "",
        "participants that may stop early:",
        "  a participant vanishes with probability 0.25",
        "  3 clients are asked, and the first 2 arrivals count",
        "  a round ends 9.5 s after its start at the latest",
        "  with fewer than 2 updates a round is abandoned",
    ]
    assert lines_of("federation.deadline_s=9.5")[2:] == ["  a round ends 9.5 s after its start at the latest"]


@pytest.mark.parametrize(
    ("period", "again"), [([], "once"), (["emulation.availability.period_s=100"], "again every 100 s")]
)
def test_intervals_are_counted(tmp_path: Path, period: list[str], again: str) -> None:
    """Client 0 is there from the start, client 2 later twice, client 1 never."""
    path = tmp_path / "intervals.csv"
    path.write_text("client,on_s,off_s\n0,0,50\n2,10,20\n2,30,40\n", encoding="utf-8")
    given = ["emulation.availability.model=intervals", f"emulation.availability.path={path}"]
    assert lines_of(*given, *period)[2:] == [
        f"  availability intervals: 1 of 3 clients at the start; 3 intervals, {again}; 1 of the clients never"
    ]
