"""Where time goes, Gantt charts and distributions over clients, of real runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fedmpi.analysis import groups, kinds
from fedmpi.analysis.drawing import write
from fedmpi.analysis.runs import AnalysisError, Run, load
from fedmpi.trace import read


@pytest.fixture
def pooled(small_sweep):
    return groups.pooled(load([small_sweep]).runs)


def with_tables(run, **tables):
    """The run with other tables in its trace, some of which traces of today may not have."""
    trace = run.trace
    changed = type("Trace", (), {**{name: getattr(trace, name) for name in vars(trace)}, **tables})
    return Run(**{**{name: getattr(run, name) for name in run.__dataclass_fields__}, "trace": changed})


def test_parts_of_a_round_add_up_to_its_length(pooled, small_sweep):
    panel = kinds.breakdown(pooled).axes[0]
    assert [text.get_text() for text in panel.get_yticklabels()] == ["dense", "fab"]
    download, compute, upload, wait = panel.containers
    assert [container.get_label() for container in panel.containers] == list(kinds.PARTS.values())
    ends = [bar.get_x() + bar.get_width() for bar in wait]
    lengths = []
    for method in ("dense", "fab"):
        rounds = [read(small_sweep / f"{method}-s{seed}").rounds for seed in (1, 2)]
        lengths.append(np.mean([(found.end_s - found.start_s).mean() for found in rounds]))
    assert ends == pytest.approx(lengths)
    assert [bar.get_x() for bar in compute] == pytest.approx([bar.get_width() for bar in download])
    clients = pd.concat([read(small_sweep / f"fab-s{seed}").clients for seed in (1, 2)])
    assert upload[1].get_width() == pytest.approx(clients.upload_s.mean())


def test_a_gantt_chart_shows_a_round_of_a_run(small_sweep):
    one = groups.pooled(load([small_sweep / "fab-s1"]).runs)
    trace = read(small_sweep / "fab-s1")
    panel = kinds.gantt(one, round_index=5).axes[0]
    rows = trace.clients[trace.clients["round"] == 5]
    download, _, upload, wait = panel.containers
    start_s, end_s = trace.rounds.loc[5, ["start_s", "end_s"]]
    assert [bar.get_x() for bar in download] == [start_s] * 4
    assert [bar.get_width() for bar in upload] == pytest.approx(rows.upload_s.tolist())
    assert [bar.get_x() + bar.get_width() for bar in wait] == pytest.approx([end_s] * 4)
    assert panel.get_xlim() == (start_s, pytest.approx(end_s))
    assert [text.get_text() for text in panel.get_yticklabels()] == ["0", "1", "2", "3"]
    assert kinds.gantt(one).axes[0].get_xlabel() == "emulated time (s), round 11"
    with pytest.raises(AnalysisError, match="round 12 has no participants; recorded: 0 to 11"):
        kinds.gantt(one, round_index=12)


def test_a_gantt_chart_names_what_was_not_accepted_and_thins_out_many_clients(small_sweep):
    run = load([small_sweep / "fab-s1"]).runs[0]
    status = run.trace.clients.status.astype(str).where(run.trace.clients.client != 2, "rejected")
    rejected = with_tables(run, clients=run.trace.clients.assign(status=status))
    panel = kinds.gantt(groups.pooled([rejected])).axes[0]
    assert [text.get_text() for text in panel.get_yticklabels()] == ["0", "1", "2 (rejected)", "3"]
    many = pd.concat([run.trace.clients[:1].assign(client=client) for client in range(90)])
    panel = kinds.gantt(groups.pooled([with_tables(run, clients=many)]), round_index=0).axes[0]
    ticks = dict(zip(panel.get_yticks(), [text.get_text() for text in panel.get_yticklabels()], strict=True))
    assert 3 <= len(ticks) <= 36
    assert all(str(int(place)) == text for place, text in ticks.items())


def test_a_gantt_chart_is_of_one_run(pooled):
    with pytest.raises(AnalysisError, match="of one run, found 4; name one run folder"):
        kinds.gantt(pooled)


def test_energy_is_summed_for_each_client_of_each_seed(small_sweep):
    runs = load([small_sweep / "fab-s1", small_sweep / "fab-s2"]).runs
    known = [
        with_tables(run, clients=run.trace.clients.assign(energy_j=run.trace.clients.client + 1.0))
        for run in runs
    ]
    line = kinds.energy(groups.pooled(known)).axes[0].lines[0]
    assert line.get_xdata()[1:].tolist() == [12.0, 12.0, 24.0, 24.0, 36.0, 36.0, 48.0, 48.0]
    unknown = known[0].trace.clients.energy_j.where(known[0].trace.clients.client > 1)
    partly = with_tables(runs[0], clients=runs[0].trace.clients.assign(energy_j=unknown))
    figure = kinds.energy(groups.pooled([partly]))
    (line,) = figure.axes[0].lines
    assert line.get_xdata()[1:].tolist() == [36.0, 48.0]
    assert line.get_ydata()[1:].tolist() == [0.5, 1.0]
    (text,) = figure.legends[0].get_texts()
    assert text.get_text().endswith("(unknown of 2 of 4 clients)")
    once = known[0].trace.clients.energy_j.where(known[0].trace.clients["round"] > 0)
    never = with_tables(runs[0], clients=runs[0].trace.clients.assign(energy_j=once))
    with pytest.raises(AnalysisError, match=r"energy of a client .* is not known of any of 4 clients"):
        kinds.energy(groups.pooled([never]))


def test_accuracy_of_clients_is_that_of_the_last_test(small_sweep):
    run = load([small_sweep / "fab-s1"]).runs[0]
    tests = pd.DataFrame({"round": [4, 4, 9, 9], "client": [0, 1, 0, 1], "accuracy": [0.1, 0.2, 0.6, 0.5]})
    tested = groups.pooled([with_tables(run, client_tests=tests)])
    assert kinds.client_accuracy(tested).axes[0].lines[0].get_xdata()[1:].tolist() == [0.5, 0.6]
    assert kinds.client_accuracy(tested, round_index=4).axes[0].lines[0].get_xdata()[1:].tolist() == [
        0.1,
        0.2,
    ]
    with pytest.raises(AnalysisError, match="no client was tested after round 5"):
        kinds.client_accuracy(tested, round_index=5)


def test_what_a_trace_does_not_have_is_named_with_the_key_that_records_it(pooled):
    with pytest.raises(AnalysisError, match=r"energy_j.*emulation\.energy\.on = true"):
        kinds.energy(pooled)
    with pytest.raises(AnalysisError, match=r"client_tests.*experiment\.evaluate_clients = true"):
        kinds.client_accuracy(pooled)


def test_names_of_runs_are_shown_as_they_are(small_sweep, tmp_path):
    run = load([small_sweep / "fab-s1"]).runs[0]
    figure = kinds.breakdown([groups.Configuration("$x^$", "", (run,))])
    write(figure, tmp_path / "x.svg")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["$x^$"]
