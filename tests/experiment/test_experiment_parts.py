"""What of an experiment goes together: parts that refuse each other, and the models that they fit."""

import pytest

from fedmpi.config import Config, ConfigError, loads, validate, validate_ranks
from fedmpi.experiment.parts import check_with_model, resolve

FEDDST = ["pruning.method=feddst", "pruning.target_density=0.5"]


def check_model(config: Config, parameters: int, ranks: int) -> None:
    validate_ranks(config, ranks)
    check_with_model(resolve(config), parameters)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["pruning.method=lottery_reinit"],
            '[pruning] ticket: is not set, and method "lottery_reinit" takes the mask of a finished run',
        ),
        (
            ["pruning.method=prunefl", "pruning.ticket=runs/a"],
            '[pruning] ticket: found "runs/a" with method "prunefl"',
        ),
        (["pruning.method=snip"], '[pruning] target_density: is not set, and method "snip" prunes to it'),
        (
            [
                "pruning.method=snip",
                "pruning.target_density=0.1",
                "sparsification.method=fedavg",
                "sparsification.k=5",
            ],
            '[pruning] method: found "snip", which prunes after the first round, with [sparsification] method "fedavg"',
        ),
        (["pruning.method=feddst"], '[pruning] target_density: is not set, and method "feddst" prunes to it'),
        (
            [*FEDDST, "sparsification.method=fab", "sparsification.k=5"],
            '[pruning] method: found "feddst" with [sparsification] method "fab": clients send what their own',
        ),
        (
            [*FEDDST, "sparsification.method=fedavg", "sparsification.k=5"],
            '[pruning] method: found "feddst", which prunes in rounds 1, 1 + reconfigure_every and so on, with',
        ),
        (
            [*FEDDST, "federation.aggregator=fedadam"],
            '[federation] aggregator: found "fedadam" with [pruning] method "feddst", which takes the mean of those',
        ),
        (
            [*FEDDST, "pruning.initial.where=client"],
            '[pruning.initial] where: found "client" with [pruning] method "feddst"',
        ),
        (
            [*FEDDST, "pruning.options.alpha=0"],
            '[pruning.options]: refused by "feddst": alpha is 0.0',
        ),
        (
            ["pruning.importance=received"],
            '[pruning] importance: found "received" with method "none", which asks for none; allowed: full, or',
        ),
        (
            ["pruning.method=fedtiny", "pruning.target_density=0.5", "pruning.importance=sketch"],
            '[pruning] importance: found "sketch" with method "fedtiny", which asks for gradients instead',
        ),
        (
            ["pruning.method=prunefl", "pruning.importance=received"],
            '[pruning] importance: found "received" with [sparsification] method "dense", whose mean alone the',
        ),
        (
            [
                "pruning.method=prunefl",
                "pruning.importance=received",
                "sparsification.method=ef21",
                "sparsification.k=5",
            ],
            '[pruning] importance: found "received" with [sparsification] method "ef21", which sends changes of',
        ),
        (
            ["pruning.method=prunefl", "pruning.importance_entries=5"],
            '[pruning] importance_entries: found 5; allowed: 0, or pruning.importance "received" or "sketch"',
        ),
        (
            ["pruning.method=prunefl", "pruning.importance=sketch"],
            '[pruning] importance_entries: found 0, as many as k, with [sparsification] method "dense", which has no k',
        ),
        (
            ["pruning.method=online", "pruning.joint=true"],
            '[pruning] joint: found true with method "online", which does not weigh importance by time; allowed: false',
        ),
        (
            [
                "pruning.method=prunefl",
                "pruning.joint=true",
                "sparsification.method=fab",
                "k_control.method=ogd_sign",
            ],
            '[pruning] joint: found true with [k_control] method "ogd_sign", which cannot decide at once; allowed:',
        ),
        (
            ["k_control.method=norm_rate", "sparsification.method=random_k"],
            '[k_control] method: found "norm_rate", which weighs the largest entries of what clients have accumulated',
        ),
        (
            ["pruning.method=online", "pruning.interval=adaptive"],
            '[pruning] interval: found "adaptive" with method "online"; allowed: fixed, or method "prunefl"',
        ),
        (
            [
                "pruning.method=prunefl",
                "pruning.interval=adaptive",
                "sparsification.method=fedavg",
                "sparsification.k=5",
            ],
            '[pruning] interval: found "adaptive" with [sparsification] method "fedavg", where masks change only at an',
        ),
        (
            ["pruning.initial.where=client"],
            '[pruning.initial] where: found "client" with [pruning] method "none"; allowed: none, or [pruning] method',
        ),
        (
            ["pruning.method=prunefl", "pruning.initial.where=client", "pruning.initial.client=10"],
            "[pruning.initial] client: found 10; allowed: a client from 0 to 9",
        ),
        (
            ["pruning.method=prunefl", "pruning.initial.where=server"],
            '[pruning.initial] charged: found true with where "server", which is no emulated device',
        ),
        (
            ["sparsification.method=periodic"],
            "[sparsification] k, k_fraction: found neither",
        ),
        (
            ["sparsification.method=periodic", "sparsification.k=5", "sparsification.wire=coo"],
            '[sparsification] wire: found "coo" with method "periodic", whose positions both sides know; allowed: '
            "auto, values",
        ),
        (
            ["sparsification.method=fedavg", "sparsification.k=5", "sparsification.wire=bitmap"],
            '[sparsification] wire: found "bitmap" with method "fedavg", which sends all; allowed: auto, dense',
        ),
        (
            ["sparsification.method=fedavg", "sparsification.k=5", "sparsification.value_type=float16"],
            '[sparsification] value_type: found "float16" with method "fedavg", which keeps no account',
        ),
        (
            ["sparsification.method=qsgd", "sparsification.k=5"],
            '[sparsification] k: found 5 with method "qsgd", which sends all',
        ),
        (
            ["sparsification.method=qsgd", "sparsification.value_type=float16"],
            '[sparsification] value_type: found "float16" with method "qsgd", whose messages have a form of their',
        ),
        (
            ["sparsification.method=stc", "k_control.method=ogd_sign"],
            '[k_control] method: found "ogd_sign" with [sparsification] method "stc", whose server sends from a',
        ),
        (
            ["sparsification.method=ef21", "sparsification.k=5", "federation.aggregator=fedadam"],
            '[federation] aggregator: found "fedadam" with [sparsification] method "ef21", whose server keeps a memory',
        ),
        (
            ["sparsification.method=periodic", "k_control.method=ogd_sign"],
            '[k_control] method: found "ogd_sign" with [sparsification] method "periodic", whose cycle',
        ),
        (
            ["sparsification.method=fedavg", "k_control.method=exp3"],
            '[k_control] method: found "exp3" with [sparsification] method "fedavg", whose k sets',
        ),
        (
            ["sparsification.k=5"],
            '[sparsification] k: found 5 with method "dense", which sends all; allowed: 0, or a sparse',
        ),
        (["sparsification.k_fraction=0.5"], '[sparsification] k_fraction: found 0.5 with method "dense"'),
        (["sparsification.wire=coo"], '[sparsification] wire: found "coo" with method "dense"'),
        (
            ["sparsification.method=fab"],
            '[sparsification] k, k_fraction: found neither with [k_control] method "fixed"',
        ),
        (
            ["sparsification.method=fab", "sparsification.k=5", "sparsification.k_fraction=0.1"],
            "[sparsification] k, k_fraction: found both",
        ),
        (
            ["sparsification.method=fab", "sparsification.k=5", "sparsification.wire=values"],
            '[sparsification] wire: found "values", which needs positions known to both sides; allowed: auto',
        ),
        (
            ["sparsification.method=fab", "sparsification.k=5", "k_control.method=ogd_sign"],
            '[sparsification] k: found 5 with [k_control] method "ogd_sign"; allowed: 0: k starts at',
        ),
        (
            ["k_control.method=ogd_sign"],
            '[k_control] method: found "ogd_sign" with [sparsification] method "dense"',
        ),
        (["k_control.arms=5"], '[k_control] arms: found 5 with method "fixed"; allowed: 0, or method "exp3"'),
        (["k_control.horizon_rounds=5"], '[k_control] horizon_rounds: found 5 with method "fixed"'),
        (
            ["k_control.k_min_fraction=0.6"],
            "[k_control] k_min_fraction: found 0.6; allowed: at most k_initial_fraction = 0.5",
        ),
        (
            ["federation.aggregator=trimmed_mean", "sparsification.method=fab", "sparsification.k=5"],
            '[federation] aggregator: found "trimmed_mean" with [sparsification] method "fab"',
        ),
        (
            [
                "federation.aggregator=fedadam",
                "pruning.method=snip",
                "pruning.target_density=0.5",
            ],
            '[federation] aggregator: found "fedadam" with [pruning] method "snip", which takes the change of the',
        ),
        (
            ["training.proximal_mu=0.1", "sparsification.method=fedavg", "sparsification.k=5"],
            '[training] proximal_mu: found 0.1 with [sparsification] method "fedavg", where clients go on from own',
        ),
        (
            ["training.proximal_mu=0.1", "pruning.method=prunefl", "pruning.initial.where=client"],
            '[training] proximal_mu: found 0.1 with [pruning.initial] where "client", which starts from no global',
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused(overrides, message):
    config = loads("", overrides)
    validate(config)
    with pytest.raises(ConfigError) as caught:
        resolve(config)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["sparsification.method=fab", "sparsification.k=5"],
        ["sparsification.method=fab", "sparsification.k_fraction=1"],
        ["sparsification.method=fab", "k_control.method=ogd_sign"],
        ["sparsification.method=periodic", "sparsification.k=5", "sparsification.wire=values"],
        ["sparsification.method=fedavg", "sparsification.k=5", "sparsification.wire=dense"],
        ["sparsification.method=fub_tree", "sparsification.k=5", "sparsification.value_type=float16"],
        [
            "sparsification.method=fab",
            "k_control.method=exp3",
            "k_control.arms=9",
            "k_control.horizon_rounds=7",
        ],
        ["sparsification.method=fab", "k_control.method=continuous_bandit", "k_control.horizon_rounds=7"],
        ["sparsification.method=fab", "k_control.method=norm_rate", "k_control.k_min_fraction=0.5"],
        ["pruning.method=prunefl", "pruning.initial.where=client", "pruning.initial.client=9"],
        [
            "pruning.method=prunefl",
            "pruning.initial.where=server",
            "pruning.initial.charged=false",
            "pruning.interval=adaptive",
            "pruning.importance=sketch",
            "pruning.importance_entries=5",
        ],
        ["pruning.method=prunefl", "sparsification.method=fedavg", "sparsification.k=5"],
        [
            "pruning.method=prunefl",
            "pruning.joint=true",
            "sparsification.method=fab",
            "k_control.method=norm_rate",
            "pruning.importance=received",
        ],
        ["pruning.method=lottery_random", "pruning.ticket=runs/a"],
        [*FEDDST, "training.proximal_mu=0.1"],
        ["federation.aggregator=fedadam", "sparsification.method=fab", "sparsification.k=5"],
        ["federation.aggregator=trimmed_mean", "sparsification.method=fedavg", "sparsification.k=5"],
        ["sparsification.method=ef21", "sparsification.k=5"],
        ["sparsification.method=qsgd"],
    ],
)
def test_parts_that_go_together_are_not_refused(overrides):
    resolve(loads("", overrides))


def test_k_must_not_exceed_the_parameters():
    config = loads("", ["sparsification.method=fab", "sparsification.k=100"])
    check_model(config, 100, 1)
    with pytest.raises(ConfigError, match=r"\[sparsification\] k: found 100; allowed: at most D = 99"):
        check_model(config, 99, 1)
    with pytest.raises(ConfigError, match="ranks: found 12"):
        check_model(config, 100, 12)


def test_entries_of_importance_must_not_exceed_the_parameters():
    given = ["pruning.method=prunefl", "pruning.importance=sketch", "pruning.importance_entries=100"]
    check_model(loads("", given), 100, 1)
    with pytest.raises(ConfigError, match=r"importance_entries: found 100; allowed: at most D = 99"):
        check_model(loads("", given), 99, 1)


def test_messages_carry_sketches_where_the_controller_asks_for_magnitudes():
    given = ["sparsification.method=fab", "k_control.k_min_fraction=0.004"]
    asking = resolve(loads("", [*given, "k_control.method=norm_rate"]))
    assert (asking.sketch(1000).dimension, asking.sketch(1000).smallest) == (1000, 4)
    assert asking.sketch(10).smallest == 1
    assert asking.sketch(1000).bytes > 0
    assert resolve(loads("", [*given, "k_control.method=ogd_sign"])).sketch(1000).bytes == 0


def test_a_run_of_fedavg_must_reach_an_exchange():
    config = loads(
        "", ["sparsification.method=fedavg", "sparsification.k_fraction=0.01", "experiment.rounds=50"]
    )
    check_model(config, 1000, 1)
    with pytest.raises(ConfigError, match=r"rounds: found 50, and .* every 51 rounds"):
        check_model(config, 1020, 1)


def test_the_period_and_k_follow_from_the_parameters():
    fedavg = resolve(loads("", ["sparsification.method=fedavg", "sparsification.k_fraction=0.1"]))
    assert (fedavg.fixed_k(1000), fedavg.period(1000)) == (100, 5)
    assert fedavg.sends_all
    fab = resolve(loads("", ["sparsification.method=fab", "sparsification.k=7"]))
    assert (fab.fixed_k(1000), fab.period(1000)) == (7, 1)
    assert not fab.sends_all


def test_reconfigurations_need_a_cost_that_depends_on_the_mask():
    overrides = ["pruning.method=prunefl", "emulation.compute.model=normalized"]
    sparse = ["sparsification.method=fab", "sparsification.k=5"]
    resolve(loads("", overrides))
    with pytest.raises(ConfigError, match="no part of the time of a round depends on the parameters"):
        resolve(loads("", [*overrides, *sparse]))
    resolve(loads("", [*overrides, *sparse, "pruning.method=online"]))


def test_masks_change_where_fedavg_exchanges():
    config = loads("", ["pruning.method=prunefl", "sparsification.method=fedavg", "sparsification.k=10"])
    check_model(config, 1000, 1)  # every 50 rounds, both
    with pytest.raises(ConfigError) as caught:
        check_model(config, 600, 1)
    assert str(caught.value) == (
        "[pruning] reconfigure_every: found 50, and clients keep own weights between the exchanges of method "
        '"fedavg", every 30 rounds; allowed: a multiple of 30'
    )


def test_models_beyond_the_indices_of_a_flat_vector_are_refused():
    check_model(Config(), 2**31 - 1, 1)
    with pytest.raises(
        ConfigError, match="model: mlp has D = 2147483648 parameters; allowed: at most 2147483647"
    ):
        check_model(Config(), 2**31, 1)
