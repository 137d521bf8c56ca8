"""Sums over participants: the same of a table in memory and of a file that is read some rounds at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmpi.analysis import client_sums
from fedmpi.analysis.client_sums import sums_of
from fedmpi.analysis.report import collect
from fedmpi.analysis.runs import load
from fedmpi.trace import Phase, Status, TraceWriter, outline, read
from fedmpi.trace.schema import TABLES

PARTICIPANTS = [3, 0, 7, 1, 7, 4]
"""Of rounds -2 to 3 among 7 clients; those below 0 are of initial pruning."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sums") / "trace.h5"
    attributes = {"config_toml": "", "clients": 7, "layer_names": ["weight"]}
    attributes |= dict.fromkeys(("seed", "ranks", "parameters"), 1)
    attributes |= dict.fromkeys(("host", "mpi_library", "slurm_job_id"), "")
    random = np.random.default_rng(4)
    with TraceWriter.create(path, attributes) as writer:
        for number, count in enumerate(PARTICIPANTS, start=-2):
            whole, floats = (
                {
                    name: of_kind(count)
                    for name in TABLES["clients"].names
                    if TABLES["clients"][name].kind == kind
                }
                for kind, of_kind in (("i", lambda n: random.integers(0, 3, n)), ("f", random.random))
            )
            who = np.sort(random.permutation(7)[:count])
            status = random.integers(0, 4, count)
            writer.append(
                clients={**whole, **floats, "round": np.full(count, number), "client": who, "status": status}
            )
            zeros = dict.fromkeys(TABLES["rounds"].names, 0)
            phase = Phase.FEDERATED if number >= 0 else Phase.INITIAL_PRUNING
            writer.append(rounds={**zeros, "round": number, "phase": phase, "participants": count})
    return path


@pytest.mark.parametrize("rows_at_once", [1, 5, 1000])
def test_sums_of_a_file_are_those_of_its_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(client_sums, "_ROWS_AT_ONCE", rows_at_once)
    clients, sums = read(path).clients, sums_of(outline(path))
    assert len(outline(path).clients) == 0
    assert sums.by_round.rows.tolist() == PARTICIPANTS
    by_client = clients.groupby("client")
    assert sums.client.tolist() == sorted(by_client.groups)
    assert sums.by_client.rows.tolist() == by_client.size().tolist()
    for name, found in zip(
        ("download_s", "compute_s", "upload_s", "wait_s"), sums.by_client.part_s, strict=True
    ):
        assert found == pytest.approx(by_client[name].sum().to_numpy())
    assert sums.by_client.energy_j == pytest.approx(by_client["energy_j"].sum().to_numpy())
    by_round = clients.groupby("round")["energy_j"].sum().reindex(range(-2, 4), fill_value=0.0)
    assert sums.by_round.energy_j == pytest.approx(by_round.to_numpy())
    for status in Status:
        of_status = clients[clients["status"] == status.name.lower()]
        assert sums.by_round.statuses[status].sum() == len(of_status)
        assert sums.by_client.statuses[status].sum() == len(of_status)
    federated = clients[clients["round"] >= 0]
    assert sums.federated == len(federated)
    assert sums.federated_s[1] == pytest.approx(federated["compute_s"].sum())
    counted = federated[federated["status"] == "ok"]
    assert sums.counted.sum() == len(counted)
    assert sums.entries_used.sum() == counted["entries_used"].sum()
    assert sums.none_used == (counted["entries_used"] == 0).sum() > 0


def test_rows_in_any_order_are_found_by_round(path: Path) -> None:
    trace = read(path)
    mixed = replace(trace, clients=trace.clients.sample(frac=1.0, random_state=0))
    assert sums_of(mixed).by_round.rows.tolist() == PARTICIPANTS
    with client_sums.rows_of(mixed) as rows:
        assert sorted(rows(0, 1)["client"]) == sorted(
            trace.clients["client"][trace.clients["round"].between(0, 1)]
        )


@pytest.mark.parametrize("rows_at_once", [1, 6])
def test_a_page_is_the_same_whether_rows_are_in_memory(
    eventful: Path, small_sweep: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(client_sums, "_ROWS_AT_ONCE", rows_at_once)
    for found in (eventful, small_sweep):
        assert repr(collect(load([found], whole=False))) == repr(collect(load([found])))
