"""What differs between runs, as settings, labels and groups."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.analysis import settings as configurations
from fedmpi.config import loads, tables


def trace(*overrides, path="runs/a", status="completed", without=(), **attributes):
    config = tables(loads("", overrides))
    for section, key in without:
        del config[section][key]
    known = {"status": status, "parameters": 10, "fedmpi_version": "1", **attributes}
    return SimpleNamespace(path=Path(path) / "trace.h5", config=config, attributes=known)


def settings(*overrides, **more):
    return configurations.settings(trace(*overrides, **more))


def distinctions(*runs, names=None, explained=()):
    return configurations.distinctions(runs, names or ["run"] * len(runs), explained)


def labels(*traces, **more):
    return configurations.run_labels(traces, **more)


@pytest.mark.parametrize(
    "change",
    [
        "experiment.name=other",
        "experiment.checkpoint_every=7",
        "experiment.stall_timeout_s=7.0",
        "placement.server_trains=true",
    ],
)
def test_what_changes_no_result_is_not_compared(change):
    assert settings(change) == settings()


@pytest.mark.parametrize(
    "change",
    [
        "experiment.seed=1",
        "experiment.rounds=7",
        "training.learning_rate=0.2",
        "placement.threads_per_rank=2",
        "data.path=elsewhere",
        "sparsification.value_type=float16",
        "emulation.network.uplink_mbit_per_s=[1.0, 2.0]",
        "emulation.compute.profile={ raspberry-pi-4 = 1.0 }",
    ],
)
def test_whatever_else_differs_is_found(change):
    runs = [settings(), settings(change)]
    assert configurations.differing(runs) == [change.partition("=")[0]]
    assert configurations.identity(runs[0]) != configurations.identity(runs[1])
    assert configurations.identity(runs[0], {change.partition("=")[0]}) == configurations.identity(
        runs[1], {change.partition("=")[0]}
    )


def test_parameters_and_version_are_compared():
    runs = [settings(), settings(parameters=11, fedmpi_version="2")]
    assert distinctions(*runs) == [
        "fedmpi_version = 1, parameters = 10",
        "fedmpi_version = 2, parameters = 11",
    ]


@pytest.mark.parametrize(
    ("used", "change"),
    [
        ("pruning.method=snip", "pruning.reconfigure_every=7"),
        ("k_control.method=exp3", "k_control.k_min_fraction=0.1"),
        ("sparsification.method=fab", "sparsification.wire=coo"),
        ("pruning.method=prunefl", "pruning.half_life_rounds=3.0"),
    ],
)
def test_settings_of_a_method_that_is_not_used_do_not_count(used, change):
    assert settings(change) == settings()
    assert settings(used, change) != settings(used)


def test_initial_pruning_counts_where_there_is_some():
    pruned = ["pruning.method=prunefl", "pruning.initial.max_rounds=7"]
    assert settings(*pruned) == settings(pruned[0])
    pruned.append("pruning.initial.where=client")
    assert settings(*pruned) != settings(pruned[0], pruned[2])


def test_keys_of_other_versions_of_fedmpi():
    old = settings(without=[("training", "momentum")])
    assert old == settings()
    assert distinctions(old, settings("training.momentum=0.5")) == ["momentum = 0", "momentum = 0.5"]
    new = trace()
    new.config["training"]["options"] = {"mu": 0.1}
    new.config["energy"] = {"on": True}
    assert distinctions(configurations.settings(new), settings()) == [
        "on = true, options.mu = 0.1",
        "on = none",
    ]


def test_runs_are_said_by_what_differs_in_the_order_of_the_schema():
    runs = [
        settings("pruning.method=snip", "training.learning_rate=0.2"),
        settings("experiment.seed=3"),
        settings("sparsification.method=fab", "sparsification.k=1000"),
    ]
    assert distinctions(*runs) == [
        "seed = 0, learning_rate = 0.2, sparsification.method = dense, pruning.method = snip",
        "seed = 3, learning_rate = 0.1, sparsification.method = dense",
        "seed = 0, learning_rate = 0.1, sparsification.method = fab",
    ]


def test_names_and_axes_explain_what_they_speak_of_between_names_but_not_within():
    runs = [
        settings("sparsification.method=fab", "sparsification.k=10", "training.batch_size=4"),
        settings("sparsification.method=fab", "sparsification.k=20", "training.batch_size=4"),
        settings("training.batch_size=8"),
    ]
    explained = ("sparsification.method", "sparsification.k")
    assert distinctions(*runs, names=["fab", "fab", "dense"], explained=explained) == [
        "batch_size = 4, k = 10",
        "batch_size = 4, k = 20",
        "batch_size = 8",
    ]
    assert distinctions(*runs, names=["fab", "fab", "dense"], explained=None) == ["k = 10", "k = 20", ""]
    assert distinctions(*runs, names=["a", "b", "c"], explained=None) == ["", "", ""]
    assert distinctions(*runs, names=["a", "b", "c"], explained=("training.", *explained)) == ["", "", ""]


def test_settings_of_a_method_are_shown_where_runs_of_it_disagree():
    fab = ["sparsification.method=fab", "sparsification.k=10"]
    runs = [
        settings(*fab, "sparsification.wire=coo"),
        settings("sparsification.method=periodic", "sparsification.k=10"),
    ]
    explained = ("sparsification.method",)
    names = ["fab", "periodic", "pruned"]
    assert distinctions(*runs, names=names[:2], explained=explained) == ["", ""]
    runs.append(settings(*fab, "pruning.method=snip"))
    explained = ("sparsification.method", "pruning.method")
    assert distinctions(*runs, names=names, explained=explained) == ["wire = coo", "", "wire = auto"]
    halves = [settings(*fab, "sparsification.value_type=float16"), runs[1]]
    assert distinctions(*halves, names=names[:2], explained=explained) == [
        "value_type = float16",
        "value_type = float32",
    ]


def test_settings_of_initial_pruning_are_shown_where_runs_with_it_disagree():
    pruned, initial = "pruning.method=prunefl", "pruning.initial.where=client"
    runs = [
        settings(),
        settings(pruned),
        settings(pruned, initial),
        settings(pruned, initial, "pruning.initial.client=3"),
    ]
    assert distinctions(*runs) == [
        "pruning.method = none",
        "pruning.method = prunefl",
        "pruning.method = prunefl, initial.where = client",
        "pruning.method = prunefl, initial.where = client, initial.client = 3",
    ]


def test_a_method_is_shown_between_names_unless_it_is_explained():
    fab = ["sparsification.method=fab", "sparsification.k=10"]
    runs = [settings(*fab), settings("emulation.compute.beta=1.0")]
    explained = ("emulation.compute.beta",)
    assert distinctions(*runs, names=["beta = 10", "beta = 1"], explained=explained) == [
        "sparsification.method = fab",
        "sparsification.method = dense",
    ]


def test_labels_of_runs_are_their_names_where_these_differ():
    assert labels(trace("experiment.name=a"), trace("experiment.name=b", "training.momentum=0.5")) == [
        "a",
        "b",
    ]


def test_labels_of_runs_of_one_name_say_what_differs_and_else_where_they_are():
    fab = "experiment.name=fab"
    assert labels(trace(fab), trace(fab, "experiment.seed=2"), trace("experiment.name=dense")) == [
        "fab, seed = 0",
        "fab, seed = 2",
        "dense",
    ]
    assert labels(
        trace(fab, path="x/a"), trace(fab, path="x/b"), trace(fab, "experiment.seed=2", path="x/c")
    ) == [
        "fab, seed = 0 (a)",
        "fab, seed = 0 (b)",
        "fab, seed = 2",
    ]
    assert labels(trace(fab, path="x/a"), trace(fab, path="y/a")) == ["fab (x/a)", "fab (y/a)"]
    assert labels(trace(fab), trace(fab)) == ["fab (a, 1)", "fab (a, 2)"]


def test_labels_name_the_status_of_a_run_that_is_not_complete():
    runs = [trace("experiment.name=a", status="running"), trace("experiment.name=b")]
    assert labels(*runs) == ["a [running]", "b"]
    assert labels(*runs, status=False) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "true"),
        (10_000, "10,000"),
        (0.1, "0.1"),
        (0.1000000001, "0.1000000001"),
        (float("inf"), "inf"),
        (1e-7, "1e-07"),
        ([1, 2.5], "[1, 2.5]"),
        ([1, 2, 3, 4], "[1, 2, 3, 4]"),
        ([1, 2, 3, 4, 5], "[1, 2, 3, 5 values]"),
        ({"a": 0.25, "b": 1}, "{a: 0.25, b: 1}"),
        ("coo", "coo"),
    ],
)
def test_texts_of_values(value, text):
    assert configurations.value_text(value) == text


def test_long_values_that_differ_where_they_are_cut_are_numbered():
    rates = [f"emulation.network.uplink_mbit_per_s=[1.0, 1.0, 1.0, 1.0, {last}.0]" for last in (1, 2, 1)]
    first, second, third = distinctions(*map(settings, rates))
    assert first == third == "network.uplink_mbit_per_s = [1, 1, 1, 5 values] (no. 1)"
    assert second.endswith("(no. 2)")


def test_paths_are_shown_from_where_they_part():
    runs = [settings(f"data.path=/data/{name}/leaf") for name in ("femnist", "mnist")]
    assert distinctions(*runs) == ["data.path = femnist/leaf", "data.path = mnist/leaf"]


@pytest.mark.parametrize(
    ("key", "short"),
    [
        ("training.learning_rate", "learning_rate"),
        ("pruning.method", "pruning.method"),
        ("model.name", "model.name"),
        ("pruning.initial.where", "initial.where"),
        ("emulation.compute.model", "compute.model"),
        ("energy.on", "on"),
    ],
)
def test_keys_are_shortened_as_far_as_they_stay_clear(key, short):
    assert configurations.short_key(key) == short


CHANGES = st.lists(
    st.sampled_from(
        [
            "experiment.seed=1",
            "training.learning_rate=0.5",
            "training.momentum=0.5",
            "sparsification.method=fab",
            "sparsification.k=5",
            "sparsification.k_fraction=0.5",
            "pruning.method=prunefl",
            "pruning.reconfigure_every=3",
            "emulation.network.uplink_mbit_per_s=[1.0, 2.0]",
            "experiment.stop_at_accuracy=0.5",
        ]
    ),
    unique=True,
)


@given(
    st.lists(CHANGES, min_size=1, max_size=5), st.sampled_from([(), None, ("sparsification.", "pruning.")])
)
def test_different_runs_of_one_name_have_different_labels_and_equal_ones_the_same(changes, explained):
    runs = [settings(*change) for change in changes]
    said = distinctions(*runs, explained=explained)
    identities = [configurations.identity(run) for run in runs]
    assert len(set(zip(said, identities, strict=True))) == len(set(said)) == len(set(identities))


def test_a_group_of_seeds_has_one_label_whatever_its_runs_are_called():
    groups = [
        [trace("experiment.name=a", "experiment.seed=1"), trace("experiment.name=b", "experiment.seed=2")],
        [trace("experiment.name=a", "training.learning_rate=0.5", path="runs/c")],
        [trace("experiment.name=a", "training.learning_rate=0.7", path="runs/d")],
    ]
    labels = configurations.labels_of(groups)
    assert labels == ["a / b", "a, learning_rate = 0.5", "a, learning_rate = 0.7"]


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from([0.1, 0.2]), st.sampled_from("ab")), max_size=8))
def test_labels_of_runs_are_all_different_and_do_not_depend_on_their_order(points):
    traces = [
        trace(
            f"experiment.seed={seed}",
            f"training.learning_rate={rate}",
            f"experiment.name={name}",
            path=f"r/{at}",
        )
        for at, (seed, rate, name) in enumerate(points)
    ]
    found = configurations.run_labels(traces)
    assert len(set(found)) == len(traces)
    assert configurations.run_labels(traces[::-1]) == found[::-1]
