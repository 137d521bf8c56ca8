import re

import pytest

from fedmpi import trace
from fedmpi.cli import host_time
from fedmpi.cli import main as cli
from fedmpi.cli.check_report import report
from fedmpi.config import load, loads


@pytest.fixture(autouse=True)
def no_trial(monkeypatch):
    """How long a run takes is for test_host_time."""
    monkeypatch.setattr(host_time, "check_host_time", lambda *arguments: "not tried")


def check(capsys, *arguments: str) -> tuple[str, list[str]]:
    assert cli.main(["check", *arguments]) == 0
    out, err = capsys.readouterr()
    assert not err
    lines = [line.removeprefix("# ") for line in out.splitlines() if line.startswith("#")]
    assert lines[-2:] == ["#", "host time: not known, as rounds could not be tried here: not tried"]
    return out, lines[:-2]


def test_what_check_prints_is_the_configuration_itself(capsys):
    out, _ = check(capsys, "quickstart", "experiment.seed=9")
    assert loads(out) == load("quickstart", ["experiment.seed=9"])


def test_placement_model_and_first_round_are_told(capsys):
    _, lines = check(capsys, "quickstart", "--ranks", "4", "clients.per_round=5")
    text = "\n".join(lines)
    assert "model: D = 4810 parameters (4736 prunable)" in text
    assert "placement on 4 ranks" in text
    assert "rank 0: server, " in text
    assert "rank 1 to 2: clients 0 to 5, 3 clients each, " in text
    assert "rank 3: clients 6 to 7, " in text
    assert "first round: 5 participants, k = 2405; bytes of each, down 19256 and up 10238" in text


def test_a_server_that_trains_has_clients(capsys):
    _, lines = check(capsys, "quickstart", "--ranks", "8", "placement.server_trains=true")
    assert sum("rank 0: server and client 0, " in line for line in lines) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.alpha=0.001", "[data] partition: "),
        ("model.name=no_such_module:factory", "[model] name: "),
        (
            "k_control.method=fixed sparsification.k=4811",
            "[sparsification] k: found 4811; allowed: at most D = 4810",
        ),
        (
            "pruning.method=fedtiny pruning.target_density=0.01",
            "[pruning] target_density: found 0.01, and 74 of 4810 parameters are never pruned",
        ),
    ],
)
def test_what_only_the_data_and_the_model_can_tell_is_refused(override, message, capsys):
    assert cli.main(["check", "quickstart", *override.split()]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"fedmpi: {message}")
    assert err.count("\n") == 1
    assert not out


def test_ranks_that_are_alike_share_a_line(capsys):
    given = ["data.partition=iid", "data.samples_per_client=2", "clients.count=22"]
    _, lines = check(capsys, "quickstart", "--ranks", "8", *given)
    first = lines.index("placement on 8 ranks, with an estimate of the memory of each:") + 1
    assert lines[first].startswith("  rank 0: server, ")
    assert re.fullmatch(r"  rank 1: clients 0 to 3, \d+ MiB", lines[first + 1])
    assert re.fullmatch(r"  rank 2 to 7: clients 4 to 21, 3 clients each, \d+ MiB each", lines[first + 2])
    assert lines[first + 3] == "  and 260 MiB of libraries on every node, which its ranks share"


def test_state_on_disk_is_printed(capsys):
    given = [
        "quickstart",
        "clients.state=disk",
        "clients.count=100",
        "data.partition=iid",
        "clients.per_round=2",
    ]
    _, lines = check(capsys, *given)
    size = 4 * 4810
    assert f"  and up to 2 MiB on disk, in the run's folder: what clients carry, {size:,} bytes each" in lines
    _, lines = check(capsys, *given, "experiment.checkpoint_every=5", "clients.state_folder=.")
    each = f"what clients carry, {size:,} bytes each, in up to three states for checkpoints"
    assert f"  and up to 6 MiB on disk, in .: {each}" in lines


def test_a_model_that_cannot_be_trained_is_refused_in_one_line(capsys, tmp_path, monkeypatch):
    (tmp_path / "norm_of_one.py").write_text(
        "from torch import nn\n"
        "def make(shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Linear(32, classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    given = ["model.name=norm_of_one:make", "data.partition=iid", "data.samples_per_client=33"]
    given += ["training.local_epochs=1", "training.batch_size=32"]
    for command in (["check"], ["run", "--quiet", "--output", str(tmp_path / "run")]):
        assert cli.main([command[0], "quickstart", *command[1:], *given]) == 2
        out, err = capsys.readouterr()
        start = (
            'fedmpi: [model] name: "norm_of_one:make" fails in a training step on a batch of 1 of 1 x 8 x 8: '
        )
        assert err.startswith(start)
        assert err.count("\n") == 1
        assert not out
    check(capsys, "quickstart", *given, "data.samples_per_client=34")


DEVICES = [
    "emulation.compute.model=linear",
    "emulation.compute.profile=raspberry-pi-4",
    "k_control.method=fixed",
]
NORMALIZED = [
    "emulation.compute.model=normalized",
    "emulation.compute.profile=reference",
    "emulation.network.uplink_mbit_per_s=inf",
    "emulation.network.downlink_mbit_per_s=inf",
    "emulation.network.latency_s=0",
    "emulation.network.server_ingress_mbit_per_s=inf",
    "emulation.network.server_egress_mbit_per_s=inf",
    "k_control.method=fixed",
]
COSTS = {
    "linear": DEVICES,
    "unit": [*DEVICES, "emulation.compute.model=unit"],
    "normalized": NORMALIZED,
}
METHODS = {
    "dense": [],
    "fab": ["sparsification.k=100"],
    "fub_flat": ["sparsification.k=300", "sparsification.wire=coo"],
    "fub_tree": ["sparsification.k=100", "sparsification.value_type=float16"],
    "periodic": ["sparsification.k=100"],
    "unidirectional": ["sparsification.k=100", "clients.per_round=5"],
    "fedavg": ["sparsification.k_fraction=0.5"],
    "fedavg with a period": ["sparsification.k_fraction=0.1"],
}


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("method", METHODS)
def test_what_check_says_of_the_first_round_is_what_a_run_records(method, cost, tmp_path, capsys):
    overrides = [*COSTS[cost], f"sparsification.method={method.split()[0]}", *METHODS[method]]
    overrides.append("training.batch_size=12")
    expected = check(capsys, "quickstart", *overrides)[1][-5:]
    command = ["run", "quickstart", *overrides, "experiment.rounds=5", "--output", str(tmp_path), "--quiet"]
    assert cli.main(command) == 0
    run = trace.read(tmp_path)
    clients, first = run.clients[run.clients["round"] == 0], run.rounds.iloc[0]
    span = {
        name: (clients[name].min(), clients[name].max()) for name in ("download_s", "compute_s", "upload_s")
    }
    duration = first["end_s"] - first["start_s"]
    at_most = ""
    if (method, cost) == ("unidirectional", "normalized"):
        # What comes down is known when all have sent; until then, as if no two sent the same coordinate.
        parameters = run.attributes["parameters"]
        missing = 10 / parameters * (5 * 100 - first["k_down"])
        assert missing > 0
        span["download_s"] = tuple(seconds + missing for seconds in span["download_s"])
        duration, at_most = duration + missing, "at most "
    k = run.attributes["parameters"] if method == "dense" else first["k"]
    (down,), (up,) = clients["bytes_down"].unique(), clients["bytes_up"].unique()
    assert expected == [
        f"first round: {first['participants']} participants, k = {k}; bytes of each, down {down} and up {up}",
        "  download {}{:.6g} to {:.6g} s".format(at_most, *span["download_s"]),
        "  compute {:.6g} to {:.6g} s".format(*span["compute_s"]),
        "  upload {:.6g} to {:.6g} s".format(*span["upload_s"]),
        f"  whole round {at_most}{duration:.6g} s of emulated time",
    ]


def test_check_says_what_it_leaves_out(capsys):
    lines = check(capsys, "quickstart", "emulation.network.jitter_s=0.1", "emulation.compute.model=measured")[
        1
    ]
    assert lines[-1] == (
        "  without jitter; without the time of training, which is measured when it runs; "
        "without the losses by which k is chosen"
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["pruning.method=prunefl"], "importance of each, 18944 bytes more up"),
        # a bitmap of 592 bytes, 2405 values, 74 that are never pruned
        (
            ["pruning.method=prunefl", "pruning.importance=sketch"],
            "importance of each, 10524 bytes more up with the k of the first round",
        ),
        (
            ["pruning.method=prunefl", "pruning.importance=received"],
            "importance of each, at most 10232 bytes more up with the k of the first round",
        ),
        (
            ["pruning.method=prunefl", "pruning.importance=sketch", "pruning.importance_entries=2405"],
            "importance of each, 10524 bytes more up",
        ),
        (["pruning.method=fedtiny", "pruning.target_density=0.5"], "gradients of each, 18944 bytes more up"),
    ],
)
def test_what_travels_before_a_new_mask_is_printed(overrides, expected, capsys):
    assert check(capsys, "quickstart", *overrides)[1][-1] == f"rounds before a new mask: {expected}"


def test_a_time_model_that_rests_on_another_model_is_printed(capsys):
    linear = [*COSTS["linear"], "sparsification.k=9"]
    notes = [line for line in check(capsys, "quickstart", *linear)[1] if line.startswith("note: ")]
    assert len(notes) == 1
    assert "step times are estimated from the work of mlp" in notes[0]
    measured = ["emulation.compute.profile=reference", "emulation.compute.model=unit"]
    assert not any("note" in line for line in check(capsys, "quickstart", *measured)[1])


def test_initial_pruning_is_printed(capsys):
    given = ["quickstart", "pruning.method=prunefl", "training.local_steps=5", "training.batch_size=32"]
    _, lines = check(capsys, *given, "pruning.initial.where=server", "pruning.initial.charged=false")
    assert (
        "initial pruning at the server: up to 1000 local rounds before the first round, not charged" in lines
    )
    at_client = ["pruning.initial.where=client", "pruning.initial.client=2", "pruning.initial.max_rounds=70"]
    unit = ["emulation.compute.model=unit", "emulation.compute.unit_s=2.5"]
    _, lines = check(capsys, *given, *at_client, *unit)
    (line,) = (number for number, line in enumerate(lines) if line.startswith("initial pruning"))
    assert lines[line].startswith("initial pruning at client 2: up to 70 local rounds on ")
    assert lines[line + 1 : line + 3] == [
        "  each of them 2.5 s of emulated time while nothing is pruned",
        "  below, the first round is that of a model of which nothing is pruned",
    ]


def test_nobody_at_the_start_is_a_first_round_that_begins_later(tmp_path, monkeypatch):
    """Who takes part in it is drawn among those of the first moment at which there is somebody."""
    (tmp_path / "on.csv").write_text("client,on_s,off_s\n3,1000,2000\n")
    intervals = [
        "emulation.availability.model=intervals",
        f"emulation.availability.path={tmp_path / 'on.csv'}",
    ]
    lines = report(load("quickstart", intervals), ranks=1).lines
    assert any(line.startswith("first round: 1 participants") for line in lines)
    assert any("0 of 8 clients at the start" in line for line in lines)
