import copy
import pickle
from math import inf
from pathlib import Path

import pytest

from fedmpi.config import Config, ConfigError, dumps, load, loads, preset_names, preset_text


def refusal(text: str = "", *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loads(text, overrides)
    return str(caught.value)


def test_an_empty_text_is_all_defaults():
    assert loads("") == Config()


def test_what_is_not_said_of_k_and_of_pruning_is_as_published():
    """Han, Wang, Leung 2020; Jiang et al. 2022: between 0.2 % of the parameters and all, and every 50 rounds."""
    config = loads("")
    k, pruning = config.k_control, config.pruning
    assert (k.k_initial_fraction, k.k_min_fraction) == (0.5, 0.002)
    assert (pruning.reconfigure_every, pruning.max_decrease_fraction) == (50, 0.3)
    assert (pruning.half_life_rounds, pruning.initial.max_rounds) == (10_000, 1000)
    assert (pruning.max_density, pruning.target_density) == (1.0, None)


def test_values_take_the_types_of_their_keys():
    config = loads(
        """
        [training]
        learning_rate = 1
        learning_rate_half_life_rounds = inf
        [model]
        hidden = [8, 4]
        [experiment]
        stop_at_accuracy = 1
        [emulation.network]
        uplink_mbit_per_s = [1, 2.5]
        downlink_mbit_per_s = { distribution = "lognormal", median = 8, sigma = 0.5 }
        [emulation.compute]
        profile = { "raspberry-pi-4" = 1 }
        """
    )
    assert type(config.training.learning_rate) is float
    assert config.training.learning_rate_half_life_rounds == inf
    assert config.model.hidden == (8, 4)
    assert type(config.experiment.stop_at_accuracy) is float
    assert config.emulation.network.uplink_mbit_per_s == (1.0, 2.5)
    rate = config.emulation.network.downlink_mbit_per_s
    assert rate == {"distribution": "lognormal", "median": 8.0, "sigma": 0.5}
    assert config.emulation.compute.profile == {"raspberry-pi-4": 1.0}


def test_options_of_a_part_keep_their_types():
    text = """
        [federation]
        aggregator = "mine:make"
        [federation.options]
        dense = true
        count = 3
        rate = 3.0
        name = "none"
        levels = [1, 2.5]
        """
    section = loads(text, ["federation.options.count=4", "federation.options.new=x"]).federation
    assert section.aggregator == "mine:make"
    expected = {"dense": True, "count": 4, "rate": 3.0, "name": "none", "levels": (1.0, 2.5), "new": "x"}
    assert section.options == expected
    assert {name: type(value) for name, value in section.options.items()} == {
        name: type(value) for name, value in expected.items()
    }


def test_a_configuration_with_tables_can_be_hashed_copied_and_pickled_but_not_changed():
    config = loads("", ["emulation.compute.profile={a=0.5, b=0.5}"])
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
    assert hash(copy.deepcopy(config)) == hash(config)
    with pytest.raises(TypeError):
        config.emulation.compute.profile["a"] = 1.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.batch_size=true", "[training] batch_size: found true (a boolean); allowed: an integer"),
        ("training.batch_size=2.0", "[training] batch_size: found 2.0 (a number); allowed: an integer"),
        (
            "training.learning_rate=true",
            "[training] learning_rate: found true (a boolean); allowed: a number",
        ),
        (
            "training.learning_rate=fast",
            '[training] learning_rate: found "fast" (a string); allowed: a number',
        ),
        (
            "placement.server_trains=1",
            "[placement] server_trains: found 1 (an integer); allowed: true or false",
        ),
        ("experiment.name=3", "[experiment] name: found 3 (an integer); allowed: a string"),
        ("experiment.name=2020-01-01", "[experiment] name: found 2020-01-01 (a date); allowed: a string"),
        (
            "model.hidden=[1, 2.0]",
            "[model] hidden: found [1, 2.0] (a list); allowed: a list, each item an integer",
        ),
        ("experiment.stop_at_accuracy=never", 'found "never" (a string); allowed: a number or "none"'),
        ("experiment.rounds.x=1", "[experiment] rounds: found {x = 1} (a table); allowed: an integer"),
        ("training=1", "override training=1: not of the form; allowed: section.key=value"),
        ("training.learning_rate", "override training.learning_rate: not of the form"),
        ("=1", "override =1: not of the form"),
        ("a b.c=1", "override a b.c=1: not of the form"),
        ("training.learning_rate=[1", "override training.learning_rate=[1: not a TOML value"),
        (
            "federation.options.x={y = 1}",
            "[federation] options: found {x = {y = 1}} (a table); allowed: a table, each value true or false or",
        ),
        ("emulation.network=1", "override emulation.network=1: [emulation.network] is a table"),
        ("[x]#=1", "override [x]#=1: not of the form"),
        ("#.a=1", "override #.a=1: not of the form"),
        ("training" + ".a" * 20 + "=1", "not of the form"),
        ("training" + ".a" * 100_000 + "=1", "not of the form"),
        ("experiment.seed=1" + "0" * 5000, "000...: not a TOML value: found a number of thousands of digits"),
        ("experiment.seed=0x" + "f" * 5000, "beyond the range of numbers"),
        (
            "data.alpha=1e400",
            "override data.alpha=1e400: not a TOML value: found the number 1e400, which is beyond",
        ),
        ("data.path=" + "[" * 100_000, "nested more than 32 deep"),
    ],
)
def test_a_wrong_value_is_refused_with_key_found_and_allowed(override, message):
    assert message in refusal("", override)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[training]\nlearing_rate = 1",
            "[training] learing_rate: unknown key; did you mean learning_rate? allowed: local",
        ),
        (
            "[trainng]\nx = 1",
            "[trainng]: unknown table; did you mean [training]? allowed: [experiment], [clients]",
        ),
        ("[network]\nlatency_s = 1", "[network]: unknown table; did you mean [emulation.network]?"),
        ("[training]\nrounds = 1", "[training] rounds: unknown key; did you mean [experiment] rounds?"),
        ("[emulation.netwrk]\nx = 1", "[emulation.netwrk]: unknown table; did you mean [emulation.network]?"),
        ("[training]\nxyzzy = 1", "[training] xyzzy: unknown key; allowed: local_steps"),
        ("[model.width]\nx = 1", "[model] width: unknown key; allowed: name, hidden"),
        ("seed = 1", "seed: a key outside of any table; did you mean [experiment] seed?"),
        ("training = 1", "[training]: found 1 (an integer); allowed: a table of keys"),
        ("[emulation]\nnetwork = []", "[emulation.network]: found [] (a list); allowed: a table of keys"),
        ("[training", "configuration: not TOML: "),
        ("[training]\nmomentum = 0\nmomentum = 0", "configuration: not TOML: "),
    ],
)
def test_wrong_keys_and_tables_are_refused_with_the_nearest_spelling(text, message):
    found = refusal(text)
    assert message in found
    assert "\n" not in found


def test_errors_carry_their_parts():
    with pytest.raises(ConfigError) as caught:
        loads("[training]\nmomentum = 'x'")
    error = caught.value
    assert (error.key, error.allowed) == ("training.momentum", "a number")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_overrides_replace_single_keys_in_order():
    text = "[training]\nlearning_rate = 0.5\nmomentum = 0.5"
    config = loads(
        text, ["training.learning_rate=1", "training.learning_rate = 2e-1 ", "data.path=/a b/#c=d"]
    )
    assert config.training.learning_rate == 0.2
    assert config.training.momentum == 0.5
    assert config.data.path == "/a b/#c=d"


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("sparsification.method=fab", lambda c: c.sparsification.method == "fab"),
        ('sparsification.method="fab"', lambda c: c.sparsification.method == "fab"),
        ("model.hidden=[3]", lambda c: c.model.hidden == (3,)),
        ("model.name=package.module:factory", lambda c: c.model.name == "package.module:factory"),
        ("emulation.network.uplink_mbit_per_s=5", lambda c: c.emulation.network.uplink_mbit_per_s == 5.0),
        ("emulation.network.uplink_mbit_per_s=inf", lambda c: c.emulation.network.uplink_mbit_per_s == inf),
        (
            "emulation.network.uplink_mbit_per_s=device",
            lambda c: c.emulation.network.uplink_mbit_per_s == "device",
        ),
        (
            'emulation.compute.profile."raspberry-pi-4"=1',
            lambda c: c.emulation.compute.profile == {"raspberry-pi-4": 1},
        ),
        ("experiment.stop_at_accuracy=none", lambda c: c.experiment.stop_at_accuracy is None),
        ("experiment.seed=0x1f", lambda c: c.experiment.seed == 31),
        ("data.path=", lambda c: c.data.path == ""),
    ],
)
def test_override_values_are_toml_or_bare_strings(override, found):
    text = (
        '[experiment]\nstop_at_accuracy = 0.5\n[data]\npath = "x"\n[emulation.compute]\nprofile = "reference"'
    )
    assert found(loads(text, [override]))


def test_one_entry_of_a_free_table_can_be_overridden():
    text = "[emulation.network]\nuplink_mbit_per_s = {distribution = 'lognormal', median = 8.0, sigma = 0.5}"
    rate = loads(text, ["emulation.network.uplink_mbit_per_s.median=3"]).emulation.network.uplink_mbit_per_s
    assert rate == {"distribution": "lognormal", "median": 3.0, "sigma": 0.5}


def test_load_takes_a_path_a_preset_or_text(tmp_path):
    file = tmp_path / "my.toml"
    file.write_text("[experiment]\nseed = 7\n")
    assert load(file).experiment.seed == load(str(file)).experiment.seed == 7
    assert load("[experiment]\nseed = 8").experiment.seed == 8
    assert load("quickstart").experiment.name == "quickstart"
    assert load(file, ["experiment.seed=9"]).experiment.seed == 9


def test_a_file_named_like_a_preset_is_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text("[experiment]\nname = 'mine'")
    assert load("quickstart").experiment.name == "mine"


def test_missing_and_unreadable_files_are_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"quikstart: no such file, .*did you mean quickstart\?.*presets?: .*quickstart"
    ):
        load("quikstart")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.toml: cannot be read: not UTF-8 text"):
        load(tmp_path / "latin.toml")
    with pytest.raises(ConfigError, match="no file name holds a NUL character"):
        load("a\0b.toml")
    (tmp_path / "wide.toml").write_bytes("[a]".encode("utf-16"))
    with pytest.raises(
        ConfigError, match=r"wide\.toml: cannot be read: UTF-16; allowed: a TOML file in UTF-8"
    ):
        load(tmp_path / "wide.toml")
    (tmp_path / "broken.toml").write_text("[a")
    with pytest.raises(ConfigError, match=r"broken\.toml: not TOML"):
        load(tmp_path / "broken.toml")


def test_a_file_is_named_as_a_file_whatever_its_name(tmp_path, monkeypatch):
    """``bad.toml`` is no key ``toml`` of a table ``bad``."""
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text("x\n")
    for source in ("bad.toml", Path("bad.toml")):
        with pytest.raises(ConfigError, match=r"^configuration bad\.toml: not TOML: .*line 1"):
            load(source)
    with pytest.raises(ConfigError, match=r"^configuration no\.toml: no such file"):
        load("no.toml")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "my.toml").write_bytes(b"\xef\xbb\xbf[experiment]\r\nseed = 7\r\n")
    assert load(tmp_path / "my.toml").experiment.seed == 7


def test_presets_are_listed_and_printed():
    assert "quickstart" in preset_names()
    assert loads(preset_text("quickstart")) == load("quickstart")
    with pytest.raises(ConfigError, match=r"preset quick: unknown; did you mean quickstart\?"):
        preset_text("quick")


def test_every_preset_says_in_its_first_line_what_it_is():
    for name in preset_names():
        first = preset_text(name).partition("\n")[0]
        assert first.startswith("# ")
        assert dumps(load(name))


def test_a_former_key_may_stand_with_the_value_that_it_had():
    assert loads("[emulation.network]\ntrace = ''\n") == loads("")
    with pytest.raises(ConfigError, match="unknown key"):
        loads("[emulation.network]\ntrace = 'lte.up'\n")
