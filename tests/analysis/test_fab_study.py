"""Studies of sparsification on made-up traces: what is measured, drawn, tabled and remarked."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.analysis import fab_figures, fab_tables, fairness, groups, kinds, measures
from fedmpi.analysis.runs import load, load_study
from fedmpi.cli.main import main
from fedmpi.config import dumps, loads
from fedmpi.trace import Phase, Status, TraceWriter, read
from fedmpi.trace.schema import TABLES

D = 10_000


@pytest.fixture
def make_run(tmp_path):
    """A run of 40 rounds of ``seconds`` in which accuracy rises by ``step`` a round, evaluated every fourth.

    ``used`` are the entries used of each client in every round; in the last round client 0 is not heard of, and unless
    ``heard_of`` nobody is in any.
    """

    def make(
        name,
        *overrides,
        seconds=10.0,
        step=0.01,
        used=(60, 40),
        ks=None,
        status="completed",
        rounds=40,
        participants=None,
        heard_of=True,
    ):
        config = loads(
            "",
            [
                "emulation.compute.model=normalized",
                "sparsification.method=fab",
                f"experiment.name={name}",
                *overrides,
            ],
        )
        folder = tmp_path / "study" / name
        folder.mkdir(parents=True)
        attributes = {
            "config_toml": dumps(config),
            "seed": config.experiment.seed,
            "clients": len(used),
            "ranks": 1,
            "parameters": D,
            **dict.fromkeys(("host", "mpi_library", "slurm_job_id"), ""),
            "layer_names": ["weight"],
        }
        writer = TraceWriter.create(folder / "trace.h5", attributes)
        integers = {column: 0 for column in TABLES["rounds"].names if TABLES["rounds"][column].kind == "i"}
        columns = TABLES["clients"].names
        for number in range(rounds):
            evaluated = number % 4 == 3
            row = {
                "round": number,
                "phase": Phase.FEDERATED,
                "end_s": (number + 1) * seconds,
                "participants": len(participants or used),
                "test_accuracy": 0.1 + step * number if evaluated else math.nan,
                "test_loss": 4.0 - step * number if evaluated else math.nan,
                "k": config.sparsification.k or (ks(number) if ks else D),
                "bytes_up": 1_000_000,
                "bytes_down": 3_000_000,
            }
            clients = {column: np.zeros(len(used), dtype=TABLES["clients"][column]) for column in columns}
            clients |= {"client": np.arange(len(used)), "entries_used": np.array(used, np.int64)}
            clients["round"] = np.full(len(used), number)
            clients["status"] = np.array(
                [Status.DROPPED if number == rounds - 1 else Status.OK, *[Status.OK] * 9]
            )
            clients["status"] = clients["status"][: len(used)].astype(np.int8)
            clients["status"][:] = clients["status"] if heard_of else Status.LATE
            writer.append(rounds={**integers, **row}, clients=clients)
        writer.close(status)
        return folder

    return make


@pytest.fixture
def whole(make_run):
    """A study with everything the figures need; the folder."""
    for seed in (1, 2):
        more = [f"experiment.seed={seed}"]
        k = "sparsification.k=100"
        make_run(f"fab-s{seed}", k, *more, step=0.01 * seed)
        make_run(f"fub_flat-s{seed}", k, "sparsification.method=fub_flat", *more, used=(100, 0))
        make_run(f"dense-s{seed}", "sparsification.method=dense", *more, seconds=50.0)
        make_run(f"k500-s{seed}", "sparsification.k=500", *more, step=0.012)
        make_run(
            f"ogd_sign-s{seed}", "k_control.method=ogd_sign", *more, ks=lambda number: 5000 // (number + 1)
        )
        for name in ("k100", "exp3"):
            chosen = ["k_control.method=exp3"] if name == "exp3" else [k]
            make_run(
                f"{name}-beta1-s{seed}", *chosen, *more, "emulation.compute.beta=1", ks=lambda number: 77
            )
    return Path(make_run("unused", k).parent)


def of_study(folder):
    return load_study([folder]).runs


def test_what_is_varied_is_read_from_the_configuration(make_run):
    make_run("a", "sparsification.k_fraction=0.02", "experiment.seed=4")
    make_run("b", "k_control.method=exp3", "emulation.compute.beta=0.5")
    folder = make_run("c", "sparsification.method=dense", "emulation.compute.model=unit").parent
    a, b, c = of_study(folder)
    assert (a.name, a.method, a.controller, a.k, a.beta, a.seed, a.adaptive) == (
        "a",
        "fab",
        "fixed",
        200,
        10.0,
        4,
        False,
    )
    assert (b.controller, b.k, b.beta, b.adaptive) == ("exp3", 0, 0.5, True)
    assert (c.method, c.k) == ("dense", 0)
    assert math.isnan(c.beta)
    assert [str(beta) for beta in groups.betas([a, b, c])] == ["0.5", "10.0", "nan"]


def test_missing_and_unfinished_runs_are_named(make_run):
    folder = make_run("half", "sparsification.k=5", status="preempted", rounds=20).parent
    make_run("young", "sparsification.k=5", rounds=3)
    (folder / "bad").mkdir()
    (folder / "bad" / "trace.h5").write_text("no")
    names = ["never", "half", "young", "bad"]
    (folder / "sweep.toml").write_text(tomli_w.dumps({"runs": [{"name": name} for name in names]}))
    loaded = load_study([folder])
    assert [run.name for run in loaded.runs] == ["half"]
    never, half, bad, young = loaded.remarks
    assert never == "never: not run yet"
    assert half == "half: preempted after 20 rounds, taken as far as it is"
    assert young == "young: left out, the model was never evaluated"
    assert bad.startswith("bad: left out, ")


def test_accuracy_at_a_time_and_time_to_an_accuracy(make_run):
    (run,) = of_study(make_run("one", "sparsification.k=5").parent)
    assert math.isnan(measures.accuracy_at(run, 39.9))
    assert measures.accuracy_at(run, 40.0) == measures.accuracy_at(run, 79.9) == pytest.approx(0.13)
    assert measures.accuracy_at(run, 400.0) == pytest.approx(0.49)
    assert math.isnan(measures.accuracy_at(run, 400.1))  # it had ended
    assert measures.time_to(run, 0.14) == 80.0
    assert math.isnan(measures.time_to(run, 0.5))
    assert measures.mean_accuracy_at([run, run], 50.0) == pytest.approx(0.13)
    assert math.isnan(measures.mean_accuracy_at([run], 0.0))


def test_runs_are_compared_where_all_were_to_stop_or_at_the_latest(make_run):
    stop = "experiment.stop_at_emulated_s=390"
    make_run("a", "sparsification.k=5", stop)
    folder = make_run("b", "sparsification.k=5", stop, "experiment.seed=1", seconds=11.0).parent
    runs = of_study(folder)
    assert measures.common_time(runs) == 390.0
    make_run("c", "sparsification.k=5", stop, "experiment.seed=2", seconds=5.0)
    assert measures.common_time(of_study(folder)) == 200.0
    make_run("d", "sparsification.k=5", "experiment.stop_at_emulated_s=100")
    assert measures.common_time([run for run in of_study(folder) if run.name != "c"]) == 400.0


def test_contributions_are_of_rounds_in_which_the_update_counted(make_run):
    trace = read(make_run("one", "sparsification.k=5", used=(60, 0, 40)))
    assert len(measures.contributions(trace)) == 39 + 40 + 40
    assert measures.client_means(trace).tolist() == [0.0, 40.0, 60.0]
    row = fairness.fairness(trace)
    assert (row["clients"], row["least"], row["median"], row["greatest"]) == (3, 0.0, 40.0, 60.0)
    assert (row["q25"], row["q75"]) == (20.0, 50.0)
    assert row["gini"] == pytest.approx(0.4)
    assert row["jain"] == pytest.approx(100**2 / (3 * (60**2 + 40**2)))
    assert row["zero_share"] == pytest.approx(40 / 119)


def test_the_methods_compared_are_those_at_the_most_common_k(whole):
    k, beta, compared = groups.methods_compared(of_study(whole))
    assert (k, beta) == (100, 10.0)
    assert {run.name for run in compared} == {
        *(f"{method}-s{seed}" for method in ("fab", "fub_flat", "dense") for seed in (1, 2)),
        "unused",
    }
    assert groups.methods_compared([])[2] == []


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.floats(0.01, 100))
def test_indices_of_fairness_are_in_their_ranges_and_know_no_unit(amounts, factor):
    values = np.array(amounts)
    gini, jain = fairness.gini(values), fairness.jain(values)
    assert -1e-9 <= gini <= 1 - 1 / values.size + 1e-9
    assert 1 / values.size - 1e-9 <= jain <= 1 + 1e-9
    if values.max() > 1e-3:
        assert fairness.gini(values * factor) == pytest.approx(gini, abs=1e-9)
        assert fairness.jain(values * factor) == pytest.approx(jain, abs=1e-9)


def test_indices_of_fairness_at_the_ends():
    alone, even = np.array([0.0, 0.0, 8.0, 0.0]), np.full(4, 8.0)
    assert (fairness.gini(alone), fairness.jain(alone)) == (0.75, 0.25)
    assert (fairness.gini(even), fairness.jain(even)) == (0.0, 1.0)
    assert (fairness.gini(0 * even), fairness.jain(0 * even)) == (0.0, 1.0)
    assert math.isnan(fairness.gini(even[:0]))
    assert math.isnan(fairness.jain(even[:0]))
    values = np.array([1.0, 5.0, 2.0, 8.0])
    assert fairness.gini(values) == pytest.approx(
        np.abs(values[:, None] - values).mean() / (2 * values.mean())
    )


def test_methods_are_drawn_as_means_over_seeds(whole):
    figure = fab_figures.methods(of_study(whole), None)
    loss, accuracy = figure.axes
    assert [line.get_label() for line in accuracy.lines] == [
        "FAB-top-k (3 seeds)",
        "FUB-top-k (2 seeds)",
        "always send all (2 seeds)",
    ]
    assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("emulated time (s)", "test accuracy")
    assert loss.get_ylabel() == "test loss (cross-entropy)"
    fab = accuracy.lines[0]
    assert (fab.get_xdata()[0], fab.get_xdata()[-1]) == (40.0, 400.0)
    assert fab.get_ydata()[-1] == pytest.approx(0.1 + np.mean([0.39, 0.78, 0.39]))
    assert len({(line.get_color(), str(line.get_linestyle())) for line in accuracy.lines}) == 3
    assert figure.get_suptitle() == "Sparsification methods, k = 100, beta = 10 (mean and range of seeds)"
    edges = accuracy.collections[0].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == (pytest.approx(0.13), pytest.approx(0.88))


def labels(panel):
    return [line.get_label() for line in panel.lines]


def test_pruned_runs_are_never_drawn_as_others(whole, make_run, capsys):
    make_run("pruned", "sparsification.method=dense", "pruning.method=prunefl", seconds=50.0)
    make_run(
        "pruned-fab", "sparsification.k=100", "pruning.method=snip", "pruning.target_density=0.2", step=0.02
    )
    panel = fab_figures.methods(of_study(whole), None).axes[1]
    assert labels(panel)[2:] == [
        "always send all (2 seeds)",
        "PruneFL + always send all (1 seed)",
        "SNIP + FAB-top-k (1 seed)",
    ]
    assert panel.lines[0].get_ydata()[-1] == pytest.approx(0.1 + np.mean([0.39, 0.78, 0.39]))
    panel = fab_figures.fixed_and_adaptive_k(of_study(whole), None).axes[1]
    series = {container.get_label(): container[0].get_xdata().tolist() for container in panel.containers}
    assert series == {
        "fixed k": [100, 500],
        "SNIP + fixed k": [100],
        "always send all": [D],
        "PruneFL + always send all": [D],
    }
    assert main(["tables", "fab", str(whole)]) == 0
    out = capsys.readouterr().out
    assert "| always send all (2 seeds) | 0.170 |" in out
    assert "| SNIP + FAB-top-k (1 seed) | 0.880 |" in out
    assert "| SNIP + fixed k = 100 (1 seed) (best) | 0.880 |" in out


def test_learning_rates_are_never_pooled(whole, make_run, capsys):
    more = ["sparsification.k=100", "training.learning_rate=0.02", "experiment.seed=1"]
    make_run("slow", *more, step=0.001)
    make_run("slow-ogd", *more[1:], "k_control.method=ogd_sign", step=0.001, ks=lambda number: 7)
    make_run(
        "slow-ogd-fub",
        *more[1:],
        "k_control.method=ogd_sign",
        "sparsification.method=fub_flat",
        ks=lambda n: 9,
    )
    panel = fab_figures.methods(of_study(whole), None).axes[1]
    assert labels(panel) == [
        "FAB-top-k, learning_rate = 0.1 (3 seeds)",
        "FAB-top-k, learning_rate = 0.02 (1 seed)",
        "FUB-top-k, learning_rate = 0.1 (2 seeds)",
        "always send all, learning_rate = 0.1 (2 seeds)",
    ]
    assert panel.lines[1].get_ydata()[-1] == pytest.approx(0.139)
    panel = fab_figures.fixed_and_adaptive_k(of_study(whole), None).axes[1]
    assert [(c.get_label(), len(c[0].get_xdata())) for c in panel.containers][:2] == [
        ("fixed k, learning_rate = 0.1", 2),
        ("fixed k, learning_rate = 0.02", 1),
    ]
    sign = fab_figures.k_over_rounds(of_study(whole), None).axes[0]
    bold = [line for line in sign.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in bold] == [
        "beta = 10, learning_rate = 0.1, sparsification.method = fab",
        "beta = 10, learning_rate = 0.02, sparsification.method = fab",
        "beta = 10, learning_rate = 0.02, sparsification.method = fub_flat",
    ]
    assert [line.get_ydata()[-1] for line in bold[1:]] == [7, 9]
    assert main(["tables", "fab", str(whole)]) == 0
    assert "| sign-based descent, learning_rate = 0.02 (1 seed) | 0.139 |" in capsys.readouterr().out


def test_runs_that_are_not_complete_are_lines_of_their_own(whole, make_run, capsys):
    make_run("half", "sparsification.k=100", "experiment.seed=9", step=0.02, rounds=20, status="preempted")
    figure = fab_figures.methods(of_study(whole), None)
    assert labels(figure.axes[1])[:2] == ["FAB-top-k (3 seeds)", "FAB-top-k [preempted] (1 seed)"]
    assert figure.axes[1].lines[1].get_xdata()[-1] == 200.0
    assert measures.common_time(of_study(whole)) == 400.0
    assert main(["tables", "fab", str(whole)]) == 0
    out, error = capsys.readouterr()
    assert "| FAB-top-k [preempted] (1 seed) | - | 20 | 80.0 |" in out
    assert "half: preempted after 20 rounds, taken as far as it is" in error
    panel = fab_figures.fixed_and_adaptive_k(of_study(whole), 300.0).axes[1]
    assert "fixed k [preempted]: not all known at 300 s" in [c.get_label() for c in panel.containers]


def test_a_level_that_is_not_known_is_named(whole):
    panel = fab_figures.fixed_and_adaptive_k(of_study(whole), 401.0).axes[1]
    assert "sign-based descent: not known at 401 s" in labels(panel)


def test_a_run_that_is_there_twice_counts_once(make_run, capsys):
    folder = make_run("first", "sparsification.k=100").parent
    make_run("again", "sparsification.k=100", "experiment.checkpoint_every=5")
    make_run("other", "sparsification.k=100", "experiment.seed=3", step=0.02)
    assert main(["tables", "fab", str(folder)]) == 0
    out, error = capsys.readouterr()
    assert error == "fedmpi: first: left out, it repeats again (same configuration, same seed)\n"
    assert "| FAB-top-k | 0.685 (0.490 to 0.880) |" in out


def test_a_run_in_which_nothing_counted_has_no_contributions(make_run, capsys):
    folder = make_run("late", "sparsification.k=100", heard_of=False, used=(0, 0)).parent
    assert main(["tables", "fab", str(folder)]) == 0
    table = capsys.readouterr().out.partition("Entries used of a client")[2]
    assert "| FAB-top-k | 50 | - | - | - | - | - |" in table
    make_run("fub", "sparsification.k=100", "sparsification.method=fub_flat", used=(50, 50))
    for panel in fab_figures.contributions_cdf(of_study(folder), None).axes:
        lengths = {line.get_label(): len(line.get_xdata()) for line in panel.lines}
        assert lengths["FAB-top-k (no update counted)"] == 0
        assert lengths["FUB-top-k"] > 0


@pytest.mark.parametrize("adaptive", [False, True])
def test_adaptive_and_fixed_k_are_tabled_where_there_are_both(make_run, adaptive):
    one, other = ["sparsification.k=100"], ["k_control.method=ogd_sign"]
    ks = {"ks": lambda number: 5000 // (number + 1)}
    folder = make_run("first", *(other if adaptive else one), **(ks if adaptive else {})).parent
    assert fab_tables.k_table(of_study(folder), 10.0, None, None) == []
    make_run("second", *(one if adaptive else other), **({} if adaptive else ks))
    title, *_ = fab_tables.k_table(of_study(folder), 10.0, None, None)
    assert title == "**FAB-top-k with adaptive and fixed k, beta = 10**"
    assert fab_tables.k_table(of_study(folder), 1.0, None, None) == []


def test_without_a_k_the_first_beta_is_that_at_which_methods_are_compared(make_run):
    dense = "sparsification.method=dense"
    folder = make_run("adaptive", "k_control.method=ogd_sign", "emulation.compute.beta=3").parent
    assert str(groups.methods_compared(of_study(folder))) == "(0, nan, [])"
    make_run("b1", dense, "emulation.compute.beta=2")
    runs = of_study(folder)
    assert groups.methods_compared(runs)[:2] == (0, 2.0)
    assert [run.name for run in groups.methods_compared(runs)[2]] == ["b1"]
    make_run("b2", dense, "emulation.compute.beta=1")
    make_run("b3", dense, "emulation.compute.beta=2", "experiment.seed=2")
    assert groups.methods_compared(of_study(folder))[:2] == (0, 2.0)
    assert [run.name for run in groups.methods_compared(of_study(folder))[2]] == ["b1", "b3"]


def test_even_shares_go_from_the_least_to_the_greatest_k(make_run):
    folder = make_run("ogd_sign", "k_control.method=ogd_sign", ks=lambda number: 5000 // (40 - number)).parent
    assert measures.even_shares(of_study(folder)[0]) == (62, 2500)


def test_a_run_in_which_nobody_took_part_has_no_even_share(make_run, capsys):
    folder = make_run("empty", "sparsification.k=100", used=(), rounds=8).parent
    assert measures.even_shares(of_study(folder)[0]) == ()
    assert main(["tables", "fab", str(folder)]) == 0
    assert "| FAB-top-k | - | - | - | - | - | - |" in capsys.readouterr().out


def test_even_shares_are_of_the_participants_of_a_round(make_run, capsys):
    """Of 4 clients 2 take part: in rounds in turn clients 0 and 1, and clients 2 and 3."""
    folder = make_run("few", "sparsification.k=100", used=(60, 0, 40, 9), participants=(0, 1)).parent
    make_run("fub", "sparsification.k=100", "sparsification.method=fub_flat", used=(50, 50, 50, 50))
    few, fub = of_study(folder)
    assert (measures.even_shares(few), measures.even_shares(fub)) == ((50, 50), (25, 25))
    assert main(["tables", "fab", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "| FAB-top-k | 50 | 0.0 | 0 |" in out
    assert "| FUB-top-k | 25 | 50.0 | 50 |" in out
    panel = fab_figures.contributions_cdf(of_study(folder), None).axes[0]
    assert [(line.get_label(), line.get_xdata()[0]) for line in panel.lines[2:]] == [
        ("k / participants = 25", 25),
        ("k / participants = 50", 50),
    ]


def test_every_controller_has_a_panel_with_k_of_every_round(whole):
    panels = fab_figures.k_over_rounds(of_study(whole), None).axes
    assert [panel.get_title() for panel in panels] == ["sign-based descent", "Exp3"]
    first, second, median = panels[0].lines
    assert first.get_ydata().tolist() == second.get_ydata().tolist() == [5000 // (n + 1) for n in range(40)]
    assert median.get_label() == "beta = 10"
    assert median.get_ydata()[20] == np.median([5000 // (n + 1) for n in range(10, 31)])


def test_fixed_and_adaptive_k_are_compared_at_the_same_time(whole):
    sparse, dense = fab_figures.fixed_and_adaptive_k(of_study(whole), None).axes
    assert (sparse.get_title(), dense.get_title()) == ("beta = 1 at 400 s", "beta = 10 at 400 s")
    fixed, everything = (container[0] for container in dense.containers)
    assert fixed.get_xdata().tolist() == [100, 500]
    assert fixed.get_ydata()[1] == pytest.approx(0.1 + 0.012 * 39)
    assert everything.get_xdata().tolist() == [D]
    assert everything.get_ydata() == pytest.approx([0.1 + 0.01 * 7])
    levels = {line.get_label(): line.get_ydata()[0] for line in dense.lines}
    assert levels["sign-based descent"] == pytest.approx(0.49)
    at_200 = fab_figures.fixed_and_adaptive_k(of_study(whole), 200.0).axes[1]
    assert at_200.get_title() == "beta = 10 at 200 s"
    assert at_200.containers[0][0].get_ydata()[1] == pytest.approx(0.1 + 0.012 * 19)


def test_distributions_of_contributions(whole):
    over_clients, over_rounds = fab_figures.contributions_cdf(of_study(whole), None).axes
    fab, fub, guarantee = over_clients.lines
    assert fab.get_xdata()[1:].tolist() == [40.0, 40.0, 40.0, 60.0, 60.0, 60.0]
    assert fub.get_xdata()[1:].tolist() == [0.0, 0.0, 100.0, 100.0]
    assert guarantee.get_xdata() == [50, 50]
    assert fub.get_ydata()[-1] == 1.0
    assert len(over_rounds.lines[1].get_xdata()) == 1 + 2 * (39 + 40)


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_all_figures_are_written(whole, tmp_path, capsys, suffix):
    output = tmp_path / "out"
    assert main(["figures", "fab", str(whole), "--output", str(output), "--format", suffix]) == 0
    assert {path.name for path in output.iterdir()} == {f"{name}.{suffix}" for name in fab_figures.FIGURES}
    assert all(path.stat().st_size > 5_000 for path in output.iterdir())
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_figures_that_cannot_be_drawn_are_named(make_run, capsys):
    folder = make_run("only", "k_control.method=exp3", ks=lambda number: 10 + number).parent
    assert main(["figures", "fab", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "methods: not drawn, it needs runs with a fixed k"
    assert lines[1] == f"k_over_rounds: {folder}/figures/k_over_rounds.png"
    assert lines[2].startswith("fixed_and_adaptive_k: not drawn")
    assert lines[3].startswith("contributions: not drawn")


def test_the_tables_of_a_study(whole, capsys):
    assert main(["tables", "fab", str(whole), "--target", "0.4"]) == 0
    out = capsys.readouterr().out
    assert "**Accuracy at 400 s of emulated time, k = 100, beta = 10**" in out
    assert "| FAB-top-k (3 seeds) | 0.620 (0.490 to 0.880) | 40 | 160.0 |" in out
    assert "| always send all (2 seeds) | 0.170 | 8 | 32.0 |" in out
    assert "| sign-based descent (2 seeds) | 0.490 | 320 | 140 |" in out
    assert "| fixed k = 100 (3 seeds) (best) | 0.620 (0.490 to 0.880) |" in out
    assert "| fixed k = 500 (2 seeds) | 0.568 | 280 | 500 |" in out
    assert "| FUB-top-k (2 seeds) | 50 | 0.0 | 0 | 50.63 % | 0.500 | 0.500 |" in out
    assert "adaptive and fixed k, beta = 1**" in out


def test_a_target_that_not_all_reached(whole, capsys):
    assert main(["tables", "fab", str(whole), "--target", "0.6", "--time", "100"]) == 0
    out = capsys.readouterr().out
    assert "accuracy at 100 s" in out
    assert "reached by 1 of 3" in out
    assert "reached by 0 of 2" in out


def test_fairness_of_runs_as_a_table_and_a_picture(whole, tmp_path, capsys):
    runs = [str(whole / name) for name in ("fab-s1", "fub_flat-s1")]
    assert main(["tables", "fairness", *runs]) == 0
    header, rule, fab, fub = capsys.readouterr().out.splitlines()
    assert header.startswith(
        "| run | clients | least | q25 | median | q75 | greatest | gini | jain | zero_share |"
    )
    assert set(rule) == set("| :-")
    assert fab.startswith("| fab-s1 | 2 | 40.0 | 45.0 | 50.0 | 55.0 | 60.0 | 0.1000 |")
    assert fub.startswith("| fub_flat-s1 | 2 | 0.0 |")
    assert main(["tables", "fairness", *runs, "--csv"]) == 0
    assert capsys.readouterr().out.startswith("run,clients,least,")


def test_the_picture_of_fairness_is_relative_to_the_mean_client(make_run):
    run = make_run("one", "sparsification.k=5", used=(60, 0, 30))
    line, even = kinds.contributions(groups.pooled(load([run]).runs)).axes[0].lines
    assert line.get_xdata()[1:].tolist() == [0.0, 1.0, 2.0]
    assert even.get_xdata() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["figures", "fab", "{}/none"], "none: no such folder"),
        (["figures", "fab", "{}"], "no run is there"),
        (["figures", "other", "{}"], "argument study: invalid choice: 'other'"),
        (["tables", "fab", "{}"], "no run is there"),
        (["tables", "fab", "{}", "--target", "40"], "--target: found 40; allowed: a number from 0 to 1"),
        (["tables", "fab", "{}", "--csv"], "--csv: is of no use for fab; allowed: fairness"),
        (["tables", "prunefl", "{}", "--time", "3"], "--time: is of no use for prunefl; allowed: fab"),
        (
            ["tables", "fairness", "{}", "--target", "0"],
            "--target: is of no use for fairness; allowed: fab, ",
        ),
        (["tables", "fairness", "{}"], "no run is there"),
    ],
)
def test_bad_arguments_of_a_study_are_one_line_and_exit_code_2(tmp_path, command, message, capsys):
    assert main([argument.format(tmp_path) for argument in command]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_picture_of_a_run_in_which_nobody_counted(make_run, tmp_path, capsys):
    run = make_run("silent", "sparsification.k=5", rounds=0)
    assert main(["plot", str(run), "--kind", "contributions", "--output", str(tmp_path / "x.png")]) == 2
    assert "nothing of any client was used" in capsys.readouterr().err
    assert main(["tables", "fairness", str(run)]) == 0
    assert "nan" in capsys.readouterr().out


def test_a_method_without_k_is_compared_at_every_k(make_run, capsys):
    make_run("fab", "sparsification.k=100")
    folder = make_run("qsgd", "sparsification.method=qsgd", step=0.02).parent
    assert [(run.method, run.k) for run in of_study(folder)] == [("fab", 100), ("qsgd", 0)]
    assert main(["tables", "fab", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "k = 100, beta = 10**" in out
    assert "| QSGD | 0.880 | 40 | 160.0 |" in out


def test_short_times_and_few_bytes_have_the_digits_that_count(make_run, capsys):
    k = "sparsification.k=100"
    make_run("fab", k, seconds=0.0123)
    folder = make_run("ogd", "k_control.method=ogd_sign", seconds=0.025, ks=lambda number: 50).parent
    assert main(["tables", "fab", str(folder), "--target", "0.3", "--time", "0.2"]) == 0
    out = capsys.readouterr().out
    assert "**Accuracy at 0.200 s of emulated time, k = 100, beta = 10**" in out
    assert "| k | accuracy at 0.200 s | seconds to accuracy 0.300 |" in out
    assert "| fixed k = 100 (best) | 0.250 | 0.30 | 100 |" in out
    assert "| sign-based descent | 0.170 | 0.60 | 50 |" in out
