from typing import Any, get_type_hints

import pytest

from fedmpi.config import (
    Config,
    ConfigError,
    load,
    loads,
    preset_names,
    validate,
    validate_ranks,
    validate_resume,
    validate_with_data,
)
from fedmpi.config.schema import asked_clients
from fedmpi.experiment.parts import check_with_model, resolve

FEDDST = ["pruning.method=feddst", "pruning.target_density=0.5"]


def check(config: Config) -> None:
    validate(config)
    resolve(config)


def check_model(config: Config, parameters: int, ranks: int) -> None:
    validate_ranks(config, ranks)
    check_with_model(resolve(config), parameters)


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check(loads("", overrides))
    return str(caught.value)


def numeric_keys(table: Any = Config, prefix: str = "") -> list[str]:
    keys = []
    for name, kind in get_type_hints(table).items():
        if isinstance(kind, type) and kind not in (int, float, str, bool):
            keys += numeric_keys(kind, f"{prefix}{name}.")
        elif kind in (int, float, float | None) or "Rate" in name or name.endswith("_per_s"):
            keys.append(prefix + name)
    return keys


NUMERIC = numeric_keys()


def test_defaults_and_presets_are_valid():
    check(Config())
    for name in preset_names():
        check(load(name))


@pytest.mark.parametrize("key", NUMERIC)
def test_no_number_may_be_negative(key):
    shown = "[{}] {}".format(*key.rsplit(".", 1))
    assert refusal(f"{key}=-1").startswith(f"{shown}: found -1")


def is_integer_key(key: str) -> bool:
    value: Any = Config()
    for part in key.split("."):
        value = getattr(value, part)
    return type(value) is int


@pytest.mark.parametrize("key", [key for key in NUMERIC if not is_integer_key(key)])
def test_no_number_may_be_nan(key):
    assert ": found nan; allowed: " in refusal(f"{key}=nan")


def test_all_kinds_of_numeric_keys_are_seen_by_these_tests():
    assert {"experiment.seed", "experiment.stop_at_host_s", "emulation.network.uplink_mbit_per_s"} <= set(
        NUMERIC
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment.rounds=0"], "[experiment] rounds: found 0; allowed: an integer from 1"),
        (
            ["experiment.evaluate_every=0"],
            "[experiment] evaluate_every: found 0; allowed: an integer from 1 to 2147483647",
        ),
        (
            ["experiment.stop_at_accuracy=1.5"],
            "[experiment] stop_at_accuracy: found 1.5; allowed: a number above 0",
        ),
        (["experiment.name="], '[experiment] name: found ""; allowed: a name that can name a folder'),
        (["experiment.name=../up"], '[experiment] name: found "../up"; allowed'),
        (["experiment.name=" + "a" * 201], "no leading dot, at most 200 bytes"),
        (["experiment.name=" + "é" * 101], "no leading dot, at most 200 bytes"),
        (['data.path="a\\u0000b"'], '[data] path: found "a\\x00b", with a character that no text file holds'),
        (["data.path=a\udcffb"], '[data] path: found "a\\udcffb", with a character that no text file holds'),
        (['emulation.compute.profile={"\\u0000"=1.0}'], "with a character that no text file holds"),
        (
            ["experiment.seed=9223372036854775808"],
            "[experiment] seed: found 9223372036854775808; allowed: an integer",
        ),
        (["experiment.name=a/b"], '[experiment] name: found "a/b"; allowed'),
        (["clients.count=0"], "[clients] count: found 0; allowed: an integer from 1"),
        (
            ["clients.per_round=11"],
            "[clients] per_round: found 11; allowed: at most clients.count = 10, or 0 for all",
        ),
        (["placement.device=gpu"], '[placement] device: found "gpu"; allowed: "cpu", "cuda" or "cuda:N"'),
        (["placement.device=cuda:"], '[placement] device: found "cuda:"'),
        (["placement.threads_per_rank=0"], "[placement] threads_per_rank: found 0"),
        (["data.dataset=mnist"], '[data] dataset: found "mnist"'),
        (["data.dataset=leaf"], '[data] path: found ""; allowed: the folder of data set "leaf"'),
        (
            ["data.partition=dirichlett"],
            '[data] partition: found "dirichlett"; did you mean dirichlet? allowed: iid,',
        ),
        (["data.alpha=0"], "[data] alpha: found 0.0; allowed: a number from 1e-06 to 1e+06"),
        (["data.alpha=inf"], "[data] alpha: found inf"),
        (["model.name=cnnn"], '[model] name: found "cnnn"; did you mean cnn? allowed: mlp,'),
        (["model.name=my-module:f"], '[model] name: found "my-module:f"; allowed: mlp,'),
        (
            ["model.hidden=[8, 0]"],
            "[model] hidden: found [8, 0]; allowed: a list, each item an integer from 1",
        ),
        (["model.hidden=[2147483648]"], "allowed: a list, each item an integer from 1 to 2147483647"),
        ([f"model.hidden=[{'1, ' * 1001}]"], "[model] hidden: found 1001 layers; allowed: at most 1000"),
        (
            ["training.learning_rate=0"],
            "[training] learning_rate: found 0.0; allowed: a number from 1e-37 to 1e+38",
        ),
        (["training.learning_rate=inf"], "[training] learning_rate: found inf"),
        (["training.momentum=1"], "[training] momentum: found 1.0; allowed: a number from 0 to below 1"),
        (["training.batch_size=0"], "[training] batch_size: found 0"),
        (["training.local_steps=0"], "[training] local_steps: found 0"),
        (["training.loss=mse"], '[training] loss: found "mse"; allowed: cross_entropy, bce_one_hot'),
        (["pruning.initial.max_rounds=0"], "[pruning.initial] max_rounds: found 0"),
        (["pruning.initial.where=clients"], '[pruning.initial] where: found "clients"; did you mean client?'),
        (["sparsification.value_type=float64"], '[sparsification] value_type: found "float64"'),
        (
            ["sparsification.method=fob"],
            '[sparsification] method: found "fob"; did you mean fab? allowed: dense, fab',
        ),
        (
            ["sparsification.k_fraction=1.5"],
            "[sparsification] k_fraction: found 1.5; allowed: a number above 0 and at most 1",
        ),
        (["k_control.method=exp4"], '[k_control] method: found "exp4"; did you mean exp3?'),
        (
            ["emulation.clock=real"],
            '[emulation] clock: found "real"; did you mean realtime? allowed: virtual, realtime',
        ),
        (["emulation.time_scale=0"], "[emulation] time_scale: found 0.0"),
        (
            ["emulation.compute.model=flips"],
            '[emulation.compute] model: found "flips"; did you mean flops? allowed: unit, linear, flops, measured, ',
        ),
        (["emulation.compute.beta=0"], "[emulation.compute] beta: found 0.0"),
        (
            ["emulation.compute.model=normalized", "emulation.network.latency_s=0.1"],
            '[emulation.network] latency_s: found 0.1 with [emulation.compute] model "normalized"; allowed: 0.0',
        ),
        (
            ["emulation.compute.model=normalized", "emulation.compute.profile=raspberry-pi-4"],
            '[emulation.compute] profile: found "raspberry-pi-4" with',
        ),
        (["emulation.compute.profile="], '[emulation.compute] profile: found ""'),
        (["emulation.compute.profile={}"], "[emulation.compute] profile: found {}; allowed: a mix"),
        (["emulation.compute.profile={a=0.5, b=-0.5}"], "allowed: a mix whose shares are above 0"),
        (["emulation.compute.profile={a=0.5, b=0.2}"], "allowed: a mix whose shares add up to 1"),
        (
            ["emulation.network.uplink_mbit_per_s=0"],
            "[emulation.network] uplink_mbit_per_s: found 0.0; allowed: a number from 1e-06 to 1e+06, or inf",
        ),
        (
            ["emulation.network.uplink_mbit_per_s=fast"],
            '[emulation.network] uplink_mbit_per_s: found "fast"; allowed: a number',
        ),
        (
            ["emulation.network.downlink_mbit_per_s=[1, 2]"],
            "found a list of 2; allowed: clients.count = 10 items",
        ),
        (
            ["clients.count=2", "emulation.network.downlink_mbit_per_s=[1, nan]"],
            "[emulation.network] downlink_mbit_per_s: found nan for client 1; allowed: a number",
        ),
        (
            ["clients.count=2", "emulation.network.downlink_mbit_per_s=[1, 1e7]"],
            "found 10000000.0 for client 1; allowed: a number from 1e-06 to 1e+06, or inf",
        ),
        (
            ["emulation.network.uplink_mbit_per_s={distribution='lognormal', median=1e308}"],
            "median: found 1e+308; allowed: a number from 0 to 1e+06",
        ),
        (["emulation.network.uplink_mbit_per_s={median=1}"], "allowed: a table with a distribution"),
        (
            ["emulation.network.uplink_mbit_per_s={distribution='lognormal', median=nan}"],
            "[emulation.network.uplink_mbit_per_s] median: found nan; allowed: a number from 0 to 1e+06",
        ),
        (
            ["emulation.network.latency_s=inf"],
            "[emulation.network] latency_s: found inf; allowed: a number from 0 to 1e+09",
        ),
        (
            ["clients.count=2", "emulation.network.jitter_s=[0.1, -1]"],
            "[emulation.network] jitter_s: found -1.0 for client 1; allowed: a number from 0 to 1e+09",
        ),
        (
            ["federation.over_selection=0.5"],
            "[federation] over_selection: found 0.5 with clients.per_round = 0, which asks all; allowed: 0",
        ),
        (
            ["clients.count=12", "clients.per_round=10", "federation.over_selection=0.21"],
            "over_selection: found 0.21, with which 13 clients are asked for 10; allowed: at most clients.count = 12",
        ),
        (
            ["clients.count=12", "clients.per_round=10", "federation.min_updates=11"],
            "[federation] min_updates: found 11; allowed: at most 10, the clients of a round",
        ),
        (["federation.deadline_s=0"], "[federation] deadline_s: found 0.0; allowed: a number from 1e-09"),
        (
            ["emulation.availability.dropout_probability=1"],
            "dropout_probability: found 1.0; allowed: a number from 0 to below 1",
        ),
        (
            ["emulation.network.latency_s=slow"],
            '[emulation.network] latency_s: found "slow"; allowed: a number of seconds, a list of them, "device"',
        ),
        (
            ["emulation.network.downlink_trace=[]"],
            "[emulation.network] downlink_trace: found []; allowed: a list of files and folders, not empty",
        ),
        (
            ["emulation.network.uplink_trace=a", "emulation.network.uplink_mbit_per_s=8"],
            '[emulation.network] uplink_trace: found "a" with uplink_mbit_per_s = 8.0; allowed: one of the two',
        ),
        (
            ["emulation.network.downlink_trace=['a', '']"],
            '[emulation.network] downlink_trace: found ["a", ""]; allowed: a list of files and folders, not',
        ),
        (
            ["emulation.network.trace_start=random"],
            '[emulation.network] trace_start: found "random" without a trace; allowed: "zero", or a trace',
        ),
        (
            ["emulation.network.trace_bin_s=1"],
            "[emulation.network] trace_bin_s: found 1.0 without a trace; allowed: 0.5, or a trace of a link",
        ),
        (
            ["emulation.network.connection=new"],
            '[emulation.network] connection: found "new" with transport "fluid", which knows no connections',
        ),
        (
            ["emulation.network.transport=udp"],
            '[emulation.network] transport: found "udp"; allowed: fluid, tcp',
        ),
        (
            ["emulation.compute.model=normalized", "emulation.network.uplink_trace=a"],
            '[emulation.network] uplink_trace: found "a" with [emulation.compute] model "normalized"',
        ),
        (["emulation.network.trace=a.trace"], "[emulation.network] trace: unknown key"),
        (
            ["emulation.availability.model=trace"],
            '[emulation.availability] model: found "trace"; allowed: always, probability, intervals,',
        ),
    ],
)
def test_what_cannot_be_run_is_refused_with_key_found_and_allowed(overrides, message):
    assert message in refusal(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["emulation.compute.model=normalized", "emulation.compute.beta=0.1"],
        ["clients.per_round=10", "experiment.stop_at_accuracy=1"],
        ["placement.device=cuda:12"],
        ["model.name=some.module:factory"],
        ["model.hidden=[]"],
        ["data.dataset=idx", "data.path=somewhere"],
        ["training.learning_rate_half_life_rounds=inf", "training.momentum=0"],
        ["emulation.network.uplink_mbit_per_s=device", "emulation.compute.profile={a=0.1, b=0.2, c=0.7}"],
        ["clients.count=2", "emulation.network.uplink_mbit_per_s=[1, inf]"],
        ["emulation.network.uplink_mbit_per_s={distribution='lognormal', median=8, sigma=0}"],
    ],
)
def test_what_can_be_run_is_not_refused(overrides):
    check(loads("", overrides))


@pytest.mark.parametrize(
    ("ranks", "server_trains", "fits"),
    [(11, False, True), (12, False, False), (10, True, True), (11, True, False), (1, False, True)],
)
def test_there_are_at_most_as_many_ranks_as_clients_and_a_server(ranks, server_trains, fits):
    config = loads("", [f"placement.server_trains={str(server_trains).lower()}"])
    if fits:
        validate_ranks(config, ranks)
    else:
        with pytest.raises(
            ConfigError, match=f"ranks: found {ranks} for 10 clients; allowed: at most {ranks - 1}"
        ):
            validate_ranks(config, ranks)


def test_no_rank_at_all_is_refused():
    with pytest.raises(ConfigError, match="--ranks: found 0"):
        validate_ranks(Config(), 0)


@pytest.mark.parametrize(
    "override",
    [
        "experiment.rounds=7",
        "experiment.stop_at_accuracy=0.5",
        "placement.server_trains=true",
        "emulation.clock=realtime",
    ],
)
def test_a_run_can_be_resumed_to_another_end_and_on_other_ranks(override):
    validate_resume(loads("", [override]), Config())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "experiment.seed=1",
            "[experiment] seed: found 1, but the run to resume has 0; allowed: the same value",
        ),
        ("pruning.target_density=0.5", "target_density: found 0.5, but the run to resume has nothing"),
        ("emulation.network.uplink_mbit_per_s={distribution='uniform', low=1, high=2}", "has inf"),
    ],
)
def test_a_run_is_not_resumed_as_another_experiment(override, message):
    with pytest.raises(ConfigError) as caught:
        validate_resume(loads("", [override]), Config())
    assert message in str(caught.value)


@pytest.mark.parametrize("method", ["iterative", "prunefl"])
def test_rounds_stay_where_the_density_of_a_round_depends_on_them(method):
    stored = loads("", [f"pruning.method={method}", "pruning.target_density=0.1", "experiment.rounds=40"])
    longer = loads("", [f"pruning.method={method}", "pruning.target_density=0.1", "experiment.rounds=50"])
    with pytest.raises(ConfigError, match="rounds: found 50, but the run to resume has 40"):
        validate_resume(longer, stored)


def test_rounds_stay_where_the_last_readjustment_depends_on_them():
    given = ["pruning.method=feddst", "pruning.target_density=0.1"]
    stored, longer = (loads("", [*given, f"experiment.rounds={rounds}"]) for rounds in (40, 50))
    with pytest.raises(ConfigError, match="rounds: found 50, but the run to resume has 40"):
        validate_resume(longer, stored)
    stored, longer = (
        loads("", [*given, "pruning.options.last_round=9", f"experiment.rounds={rounds}"])
        for rounds in (40, 50)
    )
    validate_resume(longer, stored)


def test_large_values_that_mean_something_are_left_alone():
    check(
        loads("", ["training.learning_rate=1e30", "training.batch_size=1000000000", "clients.count=1000000"])
    )
    check(loads("", ["experiment.seed=9223372036854775807", "experiment.rounds=2147483647"]))
    check(loads("", ["experiment.name=" + "a" * 200, f"model.hidden=[{'1, ' * 1000}]"]))


@pytest.mark.parametrize(
    ("overrides", "samples", "message"),
    [
        (
            ["training.local_steps=1000000", "training.batch_size=101"],
            200,
            "local_steps: found 1000000, with which",
        ),
        (["training.local_steps=1000000", "training.batch_size=999"], 101, "101000000 samples in a round"),
        (
            ["training.local_epochs=500001", "training.batch_size=1"],
            200,
            r"local_epochs: found 500001.*at most 500000",
        ),
    ],
)
def test_rounds_that_no_client_gets_through_are_refused(overrides, samples, message):
    config = loads("", overrides)
    check(config)
    with pytest.raises(ConfigError, match=message):
        validate_with_data(config, samples)
    validate_with_data(config, samples // 2)


def test_a_round_of_the_most_samples_is_allowed():
    config = loads("", ["training.local_steps=1000000", "training.batch_size=100"])
    validate_with_data(config, 10**9)
    with pytest.raises(ConfigError, match="at most 990099"):
        validate_with_data(loads("", ["training.batch_size=101", "training.local_steps=1000000"]), 10**9)


@pytest.mark.parametrize(
    ("per_round", "share", "asked"),
    [(10, 0.0, 10), (10, 0.3, 13), (10, 0.31, 14), (3, 1 / 3, 4), (0, 0.0, 0)],
)
def test_over_selection_is_rounded_up(per_round, share, asked):
    assert asked_clients(per_round, share) == asked
