"""What a page shows of runs, before it is HTML."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fedmpi.analysis.groups import pooled
from fedmpi.analysis.measures import mean_parts
from fedmpi.analysis.report import collect, participants, thinning
from fedmpi.analysis.report.content import UNKNOWN, capital, text
from fedmpi.analysis.runs import AnalysisError, load
from fedmpi.analysis.settings import differences
from fedmpi.trace import read

SECTIONS = ["what", "accuracy", "sent", "time", "round", "late", "energy", "fairness", "host", "events"]


@pytest.fixture(scope="module")
def of_eventful(eventful):
    return collect(load([eventful]))


@pytest.fixture(scope="module")
def of_sweep(small_sweep):
    return collect(load([small_sweep]))


def section(report, name):
    return next(one for one in report.sections if one.name == name)


def chart(report, name, title):
    return next(one for one in section(report, name).charts if one.title == title)


def test_a_run_has_all_sections_and_a_sweep_one_more(of_eventful, of_sweep):
    assert [one.name for one in of_eventful.sections] == SECTIONS
    assert [one.name for one in of_sweep.sections] == ["what", "runs", *SECTIONS[1:]]
    assert of_eventful.runs == ("<script>alert(1)<&b>\"'${x}",)
    assert len(of_sweep.runs) == 4


def test_the_headlines_of_a_run(of_eventful):
    found = {one.label: (one.value, one.remark) for one in of_eventful.headlines}
    assert found["final accuracy"] == ("0.4000", "after round 4")
    assert found["emulated time"][0] == "54.0 s"
    assert found["rounds"][0] == "6 of 6"
    assert found["sent by clients"][0] == "6 kB"
    assert found["received by clients"][0] == "18 kB"
    assert found["energy"] == (UNKNOWN, "powers of some devices are unknown")
    assert found["host time"] == ("3.0 s", "2 rounds a second")


def test_accuracy_is_drawn_over_time_rounds_and_bytes(of_eventful):
    time, rounds, sent = (chart(of_eventful, "accuracy", f"test accuracy over {x}").series[0] for x in _OVER)
    assert time.x == [9, 27, 45]
    assert rounds.x == [0, 2, 4]
    assert sent.x == [4000, 12000, 20000]
    assert time.y == rounds.y == sent.y == [0, 0.2, 0.4]


_OVER = ("emulated time", "rounds", "bytes")


def test_seeds_make_one_line_with_a_band(of_sweep):
    lines = chart(of_sweep, "accuracy", "test accuracy over rounds").series
    assert [line.name for line in lines] == ["dense", "fab"]
    for line in lines:
        assert line.x == [2, 5, 8, 11]
        assert all(low <= mean <= high for low, mean, high in zip(line.low, line.y, line.high, strict=True))


def test_what_never_changes_is_said_and_what_changes_is_drawn(of_eventful):
    found = section(of_eventful, "sent")
    assert "Density: 1 in every round." in found.text
    assert [one.title for one in found.charts] == ["k over rounds"]
    assert found.charts[0].series[0].y == [10, 11, 12, 13, 14, 15]


def test_time_by_round_device_and_client(of_eventful, eventful):
    by_round = chart(of_eventful, "time", "by round")
    assert [one.y[0] for one in by_round.series] == [1, 2, 4.5, 1.5]
    by_client = chart(of_eventful, "time", "by client")
    assert by_client.series[2].x == ["client 0", "client 1", "client 2", "client 3"]
    assert by_client.series[2].y == [3, 4, 5, 6]
    by_device = chart(of_eventful, "time", "by device")
    assert [name.replace("\N{NO-BREAK SPACE}", " ") for name in by_device.series[2].x] == [
        "<i>large (2 clients)",
        "small (2 clients)",
    ]
    assert by_device.series[2].y == [5.5, 3.5]
    (run,) = load([eventful]).runs
    assert mean_parts(run) == pytest.approx([1.0, 2.0, 4.5, 1.5])


def test_a_gantt_chart_has_every_round_and_participant(of_eventful):
    rounds = section(of_eventful, "round").charts[0].rounds
    assert [one["round"] for one in rounds] == list(range(6))
    last = rounds[-1]
    assert (last["start_s"], last["end_s"], last["participants"]) == (45, 54, 4)
    assert last["client"] == [0, 1, 2, 3]
    assert last["upload_s"] == [3, 4, 5, 6]
    assert last["status"] == [0, 0, 1, 2]
    devices = section(of_eventful, "round").charts[0].devices
    assert [devices[place] for place in last["device"]] == ["small", "small", "<i>large", "<i>large"]


def test_a_gantt_chart_of_many_keeps_the_first_and_the_last(eventful, monkeypatch):
    monkeypatch.setattr(participants, "MOST_CLIENTS", 4)
    monkeypatch.setattr(participants, "MOST_GANTT_ROWS", 12)
    (found,) = participants.one_round(load([eventful]).runs).charts
    assert [one["round"] for one in found.rounds] == [0, 2, 5]
    assert "3 of 6 rounds are shown" in found.note
    columns = {"client": np.arange(9), "download_s": np.zeros(9), "compute_s": np.zeros(9)}
    columns |= {"upload_s": np.arange(9)[::-1], "wait_s": np.zeros(9)}
    columns |= {"bytes_up": np.zeros(9), "bytes_down": np.zeros(9), "status": pd.Categorical(["ok"] * 9)}
    kept = participants._round(pd.DataFrame(columns), 3, {})
    assert kept["client"] == [8, 4, 0]


def test_who_was_late_and_dropped(of_eventful, of_sweep):
    found = section(of_eventful, "late")
    late, dropped = found.charts[0].series
    assert (late.name, late.y) == ("late", [1] * 6)
    assert (dropped.name, dropped.y) == ("dropped", [0, 0, 0, 0, 0, 1])
    assert found.tables[0].rows[0][1:] == ("24", "6", "1", "0", "0", "29.2%")
    assert [row[:4] for row in found.tables[1].rows] == [
        ("client 2", "<i>large", "6", "6"),
        ("client 3", "<i>large", "6", "0"),
    ]
    assert section(of_sweep, "late").text == ("All 192 updates were accepted.",)


def test_energy_that_is_not_known_is_said_to_be_so(of_eventful, of_sweep):
    found = section(of_eventful, "energy")
    (row,) = found.tables[0].rows
    assert row[1:] == (UNKNOWN, "12.00 J", "12.00 J", "18.00 J", "1 of 4")
    (distribution,) = found.charts
    assert distribution.series[0].x == [6, 6, 12, 18]
    assert "unknown of 1 of 4 clients" in distribution.note
    assert section(of_sweep, "energy").text == ("Energy was not recorded (emulation.energy.on = true does).",)


def test_fairness(of_eventful, of_sweep):
    found = section(of_eventful, "fairness")
    contributions, accuracies = found.charts
    assert contributions.series[0].x[-1] == pytest.approx(40 / 23.333333, rel=1e-4)  # client 2 is always late
    assert accuracies.series[0].x == [0, 0, 0.25, 0.5, 0.75]
    assert accuracies.series[0].y == [0, 0.25, 0.5, 0.75, 1]
    assert any("was not measured" in line for line in section(of_sweep, "fairness").text)


def test_what_differs_from_the_defaults_and_between_runs(of_sweep, small_sweep):
    between, alike, _ = section(of_sweep, "what").tables
    assert between.header[1:3] == ("sparsification.method", "sparsification.k_fraction")
    assert [row[:3] for row in between.rows] == [("dense", "dense", "0"), ("fab", "fab", "0.1")]
    assert [row[-1] for row in between.rows] == ["1, 2", "1, 2"]
    assert ("clients.count", "4", "10") in alike.rows
    assert ("experiment.rounds", "12", "100") in alike.rows
    found = {key: (value, default) for key, value, default in differences(read(small_sweep / "fab-s2"))}
    assert found["sparsification.method"] == ("fab", "dense")
    assert not {"experiment.seed", "experiment.name"} & found.keys()


def test_warnings_are_counted(of_eventful, of_sweep):
    assert section(of_eventful, "events").text == ("1 of 1 events are warnings.",)
    assert section(of_sweep, "events").text == ("There were no warnings.",)


def test_of_many_runs_the_first_of_each_configuration_can_be_chosen(small_sweep, monkeypatch):
    monkeypatch.setattr("fedmpi.analysis.report.collecting.MOST_RUNS", 2)
    report = collect(load([small_sweep]))
    assert report.runs == ("dense, seed = 1", "fab, seed = 1")
    assert any("2 of 4 runs are shown" in remark for remark in report.remarks)


def test_runs_that_have_not_begun_are_named(made_up):
    loaded = load([made_up("a", 0.1, rounds=0)])
    with pytest.raises(AnalysisError, match="left out, it has no rounds yet"):
        collect(loaded)


def test_a_run_without_evaluations_clients_and_energy(made_up):
    report = collect(load([made_up("a", np.nan, status="preempted")]))
    assert report.subtitle.startswith("preempted")
    assert report.headlines[0].value == UNKNOWN
    assert section(report, "round").text == ("No round has participants.",)


def test_texts_of_numbers():
    assert text(float("nan"), "{:.4f}", "J") == UNKNOWN
    assert text(2.5, "{:.1f}", "J") == "2.5 J"
    assert capital("k over rounds") == "k over rounds"
    assert capital("loss") == "Loss"


def test_points_of_lines_are_thinned(made_up, monkeypatch):
    monkeypatch.setattr(thinning, "MOST_POINTS", 20)
    report = collect(load([made_up("a", 0.01, rounds=200)]))
    found = chart(report, "sent", "k over rounds")
    assert len(found.series[0].x) <= 20
    assert found.series[0].x[-1] == 199
    assert "of 200 points of a line are shown" in found.note
    assert len(pooled(load([]).runs)) == 0


def test_the_title_of_many_experiments_names_the_first(made_up):
    folders = [
        made_up(f"r{n}", 0.04, name=f"r{n}", config=f"[training]\nmomentum = 0.0{n}\n") for n in range(8)
    ]
    assert collect(load(folders)).title == "r0 / r1 / r2 / r3 / r4 / r5 / ... (8 experiments)"
    assert collect(load(folders[:6])).title == "r0 / r1 / r2 / r3 / r4 / r5"
