"""Runs that are timed again from their traces, against real reruns on the other devices and links."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fedmpi
from fedmpi.analysis.groups import pooled
from fedmpi.analysis.runs import load
from fedmpi.analysis.status import status_of
from fedmpi.cli.main import main
from fedmpi.config import ConfigError, loads
from fedmpi.experiment.retiming import prepare, write
from fedmpi.experiment.time_decisions import decisions_by_time
from fedmpi.trace import Trace, TraceWriter, read

HERE = Path(__file__).resolve().parent
VARYING = HERE.parent / "mpi" / "varying.up"

BASE = """
[experiment]
name = "small"
seed = 5
rounds = 6
evaluate_every = 2
evaluate_clients = true
[clients]
count = 8
per_round = 5
[data]
dataset = "digits"
partition = "dirichlet"
alpha = 1.0
client_test_fraction = 0.2
[model]
name = "mlp"
hidden = [16]
[training]
local_epochs = 1
batch_size = 16
learning_rate = 0.2
[emulation.compute]
model = "linear"
profile = {"raspberry-pi-4" = 0.5, "raspberry-pi-3" = 0.5}
[emulation.network]
uplink_mbit_per_s = {distribution = "lognormal", median = 2.0, sigma = 0.5}
downlink_mbit_per_s = 8.0
latency_s = 0.02
jitter_s = 0.01
server_ingress_mbit_per_s = 6.0
[emulation.energy]
on = true
"""

METHODS = {
    "dense": [],
    "fab": ["sparsification.method=fab", "sparsification.k=60"],
    "fub": ["sparsification.method=fub_flat", "sparsification.k=60"],
    "periodic": ["sparsification.method=periodic", "sparsification.k=60"],
    "fedavg": ["sparsification.method=fedavg", "sparsification.k=400"],
    "snip": ["pruning.method=snip", "pruning.target_density=0.3", "clients.per_round=0"],
    "snip_fab": [
        "pruning.method=snip",
        "pruning.target_density=0.3",
        *("sparsification.method=fab", "sparsification.k=60"),
    ],
}

LINKS = {
    "rates": [
        "emulation.network.uplink_mbit_per_s=0.7",
        "emulation.network.jitter_s=0.0",
        "emulation.network.server_ingress_mbit_per_s=1.5",
        "emulation.network.server_egress_mbit_per_s=20.0",
    ],
    "traces": [
        "emulation.network.uplink_mbit_per_s=inf",
        f"emulation.network.uplink_trace={VARYING}",
        "emulation.network.trace_start=random",
        "emulation.network.transport=tcp",
        "emulation.network.connection=new",
    ],
    "devices": [
        "emulation.compute.profile=raspberry-pi-5",
        "emulation.compute.model=flops",
        "emulation.network.latency_s=0.1",
    ],
    "powers": [
        f"emulation.compute.profile={HERE / 'powered_devices.csv'}",
        *(
            f"emulation.network.{name}=device"
            for name in ("uplink_mbit_per_s", "downlink_mbit_per_s", "latency_s")
        ),
    ],
    "speed": ["emulation.compute.speed=3.7", "emulation.network.uplink_mbit_per_s=0.7"],
    "unit": ["emulation.compute.model=unit", "emulation.compute.unit_s=0.3", "emulation.energy.on=false"],
    "normalized": [
        "emulation.compute.model=normalized",
        "emulation.compute.profile=reference",
        *(f"emulation.network.{name}_mbit_per_s=inf" for name in ("uplink", "downlink", "server_ingress")),
        *("emulation.network.latency_s=0", "emulation.network.jitter_s=0", "emulation.energy.on=false"),
    ],
}
"""Other devices and links, as overrides of BASE."""

CASES = [
    ("dense", "rates"),
    ("dense", "traces"),
    ("dense", "devices"),
    ("dense", "unit"),
    ("dense", "normalized"),
    ("fab", "traces"),
    ("fab", "normalized"),
    ("fab", "speed"),
    ("fub", "devices"),
    ("periodic", "rates"),
    ("fedavg", "traces"),
    ("snip", "devices"),
    ("snip", "powers"),
    ("snip_fab", "rates"),
]

Runner = Callable[..., Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Run BASE with overrides on one rank, once each; the run folder."""
    done: dict[tuple[str, ...], Path] = {}

    def once(*overrides: str) -> Path:
        if overrides not in done:
            done[overrides] = tmp_path_factory.mktemp("run") / "run"
            fedmpi.run(BASE, *overrides, output=done[overrides], quiet=True)
        return done[overrides]

    return once


def retimed(source: Path, output: Path, *overrides: str) -> Trace:
    assert main(["retime", str(source), *overrides, "--output", str(output)]) == 0
    return read(output)


def assert_same(trace: Trace, expected: Trace) -> None:
    """Every column but those of host time, bit for bit, and all events but those that say what a trace is."""
    host = {"rounds": ["host_s"], "clients": [], "devices": [], "layers": [], "client_tests": []}
    for name, columns in host.items():
        found, wanted = getattr(trace, name), getattr(expected, name)
        pd.testing.assert_frame_equal(
            found.drop(columns=columns), wanted.drop(columns=columns), check_exact=True, obj=name
        )
    own = trace.events[~trace.events.kind.isin(["retimed", "approximate"])]
    pd.testing.assert_frame_equal(own.reset_index(drop=True), expected.events, check_exact=True)
    assert trace.config == expected.config
    assert trace.attributes["config_digest"] == expected.attributes["config_digest"]


@pytest.mark.parametrize(("method", "links"), CASES)
def test_a_retimed_run_is_the_rerun(run, tmp_path, method, links):
    source = run(*METHODS[method])
    trace = retimed(source, tmp_path / "out", *LINKS[links])
    expected = read(run(*METHODS[method], *LINKS[links]))
    assert_same(trace, expected)
    assert (trace.rounds.end_s != read(source).rounds.end_s).all()
    assert trace.attributes["retiming"] == "exact"
    assert trace.attributes["retimed_from"] == read(source).attributes["run_id"]
    assert trace.attributes["run_id"] not in ("", read(source).attributes["run_id"])


def test_a_retimed_run_is_retimed_again_and_back(run, tmp_path):
    source = run(*METHODS["fab"])
    there = retimed(source, tmp_path / "there", *LINKS["traces"]).path.parent
    back = tmp_path / "back"
    overrides = [
        'emulation.network.uplink_mbit_per_s={distribution="lognormal", median=2.0, sigma=0.5}',
        *('emulation.network.uplink_trace=""', "emulation.network.trace_start=zero"),
        *("emulation.network.transport=fluid", "emulation.network.connection=kept"),
    ]
    assert_same(retimed(there, back, *overrides), read(source))


def test_a_real_time_run_becomes_one_of_the_virtual_clock(run, tmp_path):
    clock = ("emulation.clock=realtime", "emulation.time_scale=0.01")
    trace = retimed(run(*METHODS["dense"], *clock), tmp_path / "out", *LINKS["unit"])
    assert_same(trace, read(run(*METHODS["dense"], *LINKS["unit"])))


def test_commands_read_a_retimed_run(run, tmp_path, capsys):
    folder = retimed(run(), tmp_path / "out", "emulation.network.uplink_mbit_per_s=1").path.parent
    assert (folder / "config.toml").read_text() == read(folder).attributes["config_toml"]
    assert "emulated s (" in capsys.readouterr().out
    for command in ("status", "summarize", "verify"):
        assert main([command, str(folder)]) == 0
    assert status_of(read(folder)).warnings == 0
    assert status_of(read(folder)).reason == "all 6 rounds done"
    assert main(["plot", str(folder), "--output", str(tmp_path / "plot.png")]) == 0


def test_nothing_is_overwritten_unasked(run, tmp_path, capsys):
    output = tmp_path / "out"
    retimed(run(), output)
    assert main(["retime", str(run()), "--output", str(output)]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main(["retime", str(run()), "--output", str(output), "--overwrite"]) == 0
    assert main(["retime", str(run()), "--output", str(run()), "--overwrite"]) == 2
    assert "is the run itself" in capsys.readouterr().err


BY_TIME = {
    "k_control.method": ['k_control.method="ogd_sign"', 'sparsification.method="fab"'],
    "pruning.method": ['pruning.method="prunefl"'],
    "pruning.initial.where": ['pruning.initial.where="client"'],
    "federation.deadline_s": ["federation.deadline_s=9"],
    "federation.over_selection": ["federation.over_selection=0.3"],
    "emulation.availability.model": ['emulation.availability.model="intervals"'],
    "emulation.availability.dropout_probability": ["emulation.availability.dropout_probability=0.1"],
    "experiment.stop_at_emulated_s": ["experiment.stop_at_emulated_s=1e9"],
    "emulation.compute.model": ['emulation.compute.model="measured"'],
}


@pytest.mark.parametrize("key", BY_TIME)
def test_what_depends_on_time_is_named(key):
    assert [found.key for found in decisions_by_time(loads(BASE, BY_TIME[key]))] == [key]


@pytest.mark.parametrize(
    ("key", "name", "depends"),
    [
        *[
            ("k_control.method", name, True)
            for name in ("ogd_value", "exp3", "continuous_bandit", "mine:CONTROL")
        ],
        *[("pruning.method", name, True) for name in ("online", "mine:METHOD")],
        *[("pruning.method", name, False) for name in ("snip", "iterative", "lottery_reinit", "none")],
        *[("k_control.method", name, False) for name in ("fixed",)],
    ],
)
def test_which_methods_depend_on_time(key, name, depends):
    assert [found.key for found in decisions_by_time(loads(BASE, [f"{key}={name}"]))] == [key] * depends


@pytest.mark.parametrize(
    "key", ["training.learning_rate", "clients.per_round", "experiment.seed", "emulation.clock"]
)
def test_what_could_change_learning_is_refused(run, tmp_path, capsys, key):
    value = {"emulation.clock": "realtime", "training.learning_rate": "0.5"}.get(key, "3")
    assert main(["retime", str(run()), f"{key}={value}", "--output", str(tmp_path / "out")]) == 2
    table, _, name = key.rpartition(".")
    error = capsys.readouterr().err
    assert error.startswith(f"fedmpi: [{table}] {name}: found ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_measured_training_cannot_be_asked_for(run):
    with pytest.raises(ConfigError, match="a trace has no host times of training"):
        prepare(run(), ["emulation.compute.model=measured"])
    with pytest.raises(ConfigError, match="a trace has no host times of training"):
        prepare(run(), ["emulation.compute.model=measured"], approximate=True)


ADAPTIVE = ["sparsification.method=fab", "k_control.method=ogd_sign", "clients.per_round=0"]


@pytest.mark.parametrize(
    ("overrides", "key", "share"),
    [
        (ADAPTIVE, "[k_control] method", 0.02),
        (["pruning.method=prunefl", "pruning.reconfigure_every=2"], "[pruning] method", 0.0),
        (["emulation.compute.model=measured"], "[emulation.compute] model", 0.0),
    ],
)
def test_approximate_times_keep_decisions_and_say_so(run, tmp_path, capsys, overrides, key, share):
    source, output = run(*overrides), tmp_path / "out"
    assert main(["retime", str(source), "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fedmpi: {key}: ")
    assert "--approximate" in error
    assert main(["retime", str(source), "--output", str(output), "--approximate"]) == 0
    assert "fedmpi: approximate: " in capsys.readouterr().err
    before, trace = read(source), read(output)
    # With nothing changed, what is recorded is nearly what comes out, and all of it where the record says everything.
    assert (abs(trace.rounds.end_s / before.rounds.end_s - 1.0) <= share).all()
    assert trace.rounds.k.equals(before.rounds.k)
    assert trace.layers.equals(before.layers)
    assert trace.clients.status.equals(before.clients.status)
    assert (trace.attributes["retiming"], trace.attributes["status"]) == ("approximate", "completed")
    (said,) = trace.events[trace.events.kind == "approximate"].detail
    assert said.startswith("kept as recorded: ")
    assert status_of(trace).warnings == 1
    again = prepare(output, [], approximate=True)
    assert "RUN" in [decision.key for decision in again.decisions]


def test_measured_training_is_scaled_by_slowdown_and_speed(run, tmp_path):
    source, output = run("emulation.compute.model=measured"), tmp_path / "out"
    given = ["emulation.compute.slowdown=3", "emulation.compute.speed=2"]
    assert main(["retime", str(source), *given, "--output", str(output), "--approximate"]) == 0
    found = read(output).clients.compute_s / read(source).clients.compute_s
    np.testing.assert_allclose(found, 1.5, rtol=1e-12)


def test_who_was_late_stays_late(run, tmp_path):
    rows = read(run()).clients
    deadline_s = float((rows.download_s + rows.compute_s + rows.upload_s).median())
    source, output = run(f"federation.deadline_s={deadline_s}"), tmp_path / "out"
    before = read(source)
    assert set(before.clients.status) == {"ok", "late"}
    assert main(["retime", str(source), "--output", str(output), "--approximate"]) == 0
    trace = read(output)
    assert trace.clients.status.equals(before.clients.status)
    lasted_s = trace.rounds.end_s - trace.rounds.start_s
    assert (lasted_s <= deadline_s * (1 + 1e-12)).all()
    assert (lasted_s > 0.0).any()
    for kind in ("bytes_up", "bytes_down"):
        sums = trace.clients.groupby("round")[kind].sum()
        assert sums.tolist() == trace.rounds[kind].tolist()


def test_time_without_anybody_passes_again(run, tmp_path):
    intervals = tmp_path / "intervals.csv"
    intervals.write_text("client,on_s,off_s\n" + "".join(f"{client},0,0.12\n" for client in range(8)))
    available = ["emulation.availability.model=intervals", f"emulation.availability.path={intervals}"]
    source = run(*available, "emulation.availability.period_s=1.0")
    output = tmp_path / "out"
    assert main(["retime", str(source), "--output", str(output), "--approximate"]) == 0
    gaps = []
    for trace in (read(source), read(output)):
        gaps.append(trace.rounds.start_s.iloc[1:].to_numpy() - trace.rounds.end_s.iloc[:-1].to_numpy())
        idle = trace.events[trace.events.kind == "idle"]
        starts = trace.rounds.set_index("round").start_s
        assert (idle.time_s.to_numpy() == starts[idle["round"]].to_numpy()).all()
    assert gaps[0].max() > 0.5
    np.testing.assert_allclose(gaps[1], gaps[0], atol=1e-9)


def test_approximate_runs_stand_apart_in_tables_and_figures(run, tmp_path):
    source = run("pruning.method=prunefl", "pruning.reconfigure_every=2")
    write_to = tmp_path / "out"
    write_to.mkdir()
    write(prepare(source, [], approximate=True), write_to)
    groups = pooled(load([source, write_to]).runs)
    assert [group.status for group in groups] == ["completed", "completed, times approximate"]
    assert groups[1].label.endswith("[completed, times approximate]")


def test_code_that_a_trace_names_is_not_imported(run, tmp_path, capsys):
    source = read(run())
    config = source.attributes["config_toml"].replace('model = "linear"', 'model = "evil:MODEL"')
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    kept = {
        name: source.attributes[name] for name in ("seed", "clients", "ranks", "parameters", "layer_names")
    }
    texts = dict.fromkeys(("host", "mpi_library", "slurm_job_id"), "")
    with TraceWriter.create(tmp_path / "trace.h5", {**kept, **texts, "config_toml": config}) as writer:
        count = len(kept["layer_names"])
        rows = {"layer": np.arange(count), "active": np.ones(count, int), "total": np.ones(count, int)}
        writer.append(layers={"round": 0, **rows})
    key, refused = "emulation.compute.model", "code that a trace is not trusted to name; allowed: "
    assert main(["retime", str(tmp_path / "trace.h5"), "--output", str(tmp_path / "out")]) == 2
    assert f"{refused}{key}=evil:MODEL among the arguments, or a built-in name" in capsys.readouterr().err
    for more in ([], ["--repeat", "1"]):
        assert main(["verify", str(tmp_path / "trace.h5"), *more]) == 2
        assert f"{refused}--trust {key}, or a built-in name" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "trace.h5"), "--trust", "emulation.compute.model"]) == 2
    assert "cannot be imported" in capsys.readouterr().err


def test_neither_torch_nor_mpi_is_needed():
    program = (
        "import sys, fedmpi.experiment.retiming, fedmpi.experiment.verifying\n"
        "print(sorted({'torch', 'mpi4py', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
