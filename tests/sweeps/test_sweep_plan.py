from pathlib import Path

import pytest

from fedmpi.config import ConfigError, dumps, load, loads, preset_names, validate
from fedmpi.sweeps import STUDIES, plan
from fedmpi.sweeps.toml_text import override_strings, value_text

AXES = """
[axes.method]
fab = {}
dense = { sparsification.method = "dense", k_control.method = "fixed" }

[axes.link]
slow = { "emulation.network.uplink_mbit_per_s" = 0.1 }
fast = { emulation.network.uplink_mbit_per_s = 10 }
"""
GRIDS = """
[[grids]]
axes = ["method", "link"]
exclude = [{ method = "dense", link = "slow" }]

[[grids]]
axes = ["link"]
points = { link = ["fast"] }
seeds = [7]
"""


@pytest.fixture
def write(tmp_path):
    """A sweep's file with the given text, of which "base" is the preset quickstart unless the text says otherwise."""

    def write(text, name="study.toml"):
        base = "" if "base" in text else 'base = "quickstart"\n'
        (tmp_path / name).write_text(base + text)
        return str(tmp_path / name)

    return write


def names(sweep):
    return [run.name for run in sweep.runs]


def test_without_grids_there_is_every_combination_of_all_axes(write):
    sweep = plan(write(AXES))
    assert names(sweep) == ["fab-slow", "fab-fast", "dense-slow", "dense-fast"]
    assert [run.index for run in sweep.runs] == [0, 1, 2, 3]
    assert sweep.name == "study"
    assert sweep.runs[0].config.experiment.seed == load("quickstart").experiment.seed


def test_grids_follow_each_other_and_first_seeds_come_first(write):
    sweep = plan(write("seeds = [1, 2]\n" + AXES + GRIDS))
    first = ["fab-slow-s1", "fab-fast-s1", "dense-fast-s1", "fast-s7"]
    assert names(sweep) == [*first, "fab-slow-s2", "fab-fast-s2", "dense-fast-s2"]
    assert [run.config.experiment.seed for run in sweep.runs] == [1, 1, 1, 7, 2, 2, 2]
    assert sweep.runs[0].label == "fab-slow"


def test_a_run_is_the_base_with_its_overrides(write):
    run = plan(write("seeds = [3]\n" + AXES)).runs[3]
    assert run.overrides == (
        'sparsification.method="dense"',
        'k_control.method="fixed"',
        "emulation.network.uplink_mbit_per_s=10",
        "experiment.seed=3",
    )
    assert run.config == load("quickstart", [*run.overrides, "experiment.name=dense-fast"])


def test_the_command_line_changes_all_runs_but_not_what_an_axis_changes(write):
    path = write(AXES)
    assert {run.config.experiment.rounds for run in plan(path, ["experiment.rounds=9"]).runs} == {9}
    with pytest.raises(
        ConfigError, match=r"override sparsification.method=fab: the run dense-slow changes this key"
    ):
        plan(path, ["sparsification.method=fab"])


def test_the_base_may_be_a_file_beside_or_tables(write, tmp_path):
    (tmp_path / "other.toml").write_text("[experiment]\nrounds = 12\n")
    axes = "[axes.seed]\none = { experiment.seed = 1 }\n"
    from_file = plan(write('base = "other.toml"\n' + axes)).runs[0].config
    from_tables = plan(write(axes + "[base.experiment]\nrounds = 12\n")).runs[0].config
    assert from_file == from_tables
    assert from_file.experiment.rounds == 12


def test_another_base_stands_in_for_that_of_the_file(write, tmp_path, monkeypatch):
    other = tmp_path / "mine" / "other.toml"
    other.parent.mkdir()
    other.write_text("[experiment]\nrounds = 12\n")
    axes = "[axes.seed]\none = { experiment.seed = 1 }\n"
    sweep = plan(write(axes), ["clients.count=3"], base=str(other))
    assert sweep.name == "study-other"
    assert sweep.runs[0].config == loads(
        other.read_text(), ["experiment.name=one", "experiment.seed=1", "clients.count=3"]
    )
    assert plan(write(axes), base="quickstart").name == "study-quickstart"
    (tmp_path / "bare.toml").write_text(axes)
    assert plan(str(tmp_path / "bare.toml"), base=str(other)).runs == plan(write(axes), base=str(other)).runs
    monkeypatch.chdir(other.parent)
    assert plan(write(axes), base="other.toml").runs[0].config.experiment.rounds == 12


@pytest.mark.parametrize("base", ["quickstrat", "", ".", "no/such.toml"])
def test_another_base_that_is_none_is_refused(write, base):
    with pytest.raises(ConfigError, match=r"--base: found .* allowed: a file, or a preset"):
        plan(write(AXES), base=base)


def test_a_run_of_two_grids_is_run_once(write):
    grid = '[[grids]]\naxes = ["method"]\n'
    assert names(plan(write(AXES + grid + grid))) == ["fab", "dense"]


def test_a_point_can_be_nested_tables_and_can_have_a_table_as_a_value(write):
    text = """
[axes.devices.mixed.emulation.compute]
profile = { "raspberry-pi-4" = 0.5, "raspberry-pi-5" = 0.5 }
"""
    run = plan(write(text)).runs[0]
    assert run.overrides == ("emulation.compute.profile={ raspberry-pi-4 = 0.5, raspberry-pi-5 = 0.5 }",)
    assert dict(run.config.emulation.compute.profile) == {"raspberry-pi-4": 0.5, "raspberry-pi-5": 0.5}


def test_values_survive_as_text():
    change = {
        "a.b": [1, -2.5, True, 'it\'s "so"\n'],
        "c.d": {"x y": "é", "z": [{"w": 1e300}]},
        "e.f": float("inf"),
    }
    assert override_strings(change) == (
        'a.b=[1, -2.5, true, "it\'s \\"so\\"\\n"]',
        'c.d={ "x y" = "é", z = [{ w = 1e+300 }] }',
        "e.f=inf",
    )
    assert value_text({}) == "{}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axes = 3", r"study.toml: axes: found 3; allowed: a table"),
        ("", r"axes: found none; allowed: at least one table \[axes.NAME\]"),
        ("[axes.a]", r"\[axes\] a: found no points"),
        ('[axes.a]\n"x y" = {}', r'\[axes\] a: found a point named "x y"; allowed: letters, digits'),
        ("[axes.a]\nx = 3", r"\[axes.a\] x: found 3; allowed: a table"),
        (
            "[axes.a]\nx = { experiment.rouns = 3 }",
            r"run x: \[experiment\] rouns: unknown key; did you mean rounds\?",
        ),
        ("[axes.a]\nx = { rounds = 3 }", r"run x: override rounds=3: not of the form"),
        ("[axes.a]\nlogs = {}", r"run logs: a folder of the study has this name"),
        ("bases = 1\n" + AXES, r"study.toml: bases: unknown key; did you mean base\?"),
        ("base = 3\n" + AXES, r"base: found 3; allowed: a preset, a file"),
        ('base = "quikstart"\n' + AXES, r"base: found \"quikstart\", .*did you mean quickstart\?"),
        ("seeds = []\n" + AXES, r"seeds: found \[\]; allowed: a list of different integers"),
        ("seeds = [1, 1]\n" + AXES, r"seeds: found \[1, 1\]"),
        ("seeds = [-1]\n" + AXES, r"seeds: found \[-1\]"),
        ("grids = []\n" + AXES, r"grids: found \[\]; allowed: tables"),
        (AXES + '[[grids]]\naxes = ["methd"]', r"grids 1: axes: found \"methd\"; did you mean method\?"),
        (
            AXES + '[[grids]]\naxes = ["link", "link"]',
            r"grids 1: axes: found .*allowed: a list of different axes",
        ),
        (AXES + "[[grids]]\naxis = []", r"grids 1: axis: unknown key; did you mean axes\?"),
        (
            AXES + '[[grids]]\npoints = { link = ["fats"] }',
            r"grids 1: points.link: found \"fats\"; did you mean fast\?",
        ),
        (AXES + "[[grids]]\npoints = { link = [] }", r"grids 1: points.link: found \[\]"),
        (
            AXES + '[[grids]]\naxes = ["link"]\nexclude = [{ method = "fab" }]',
            r"grids 1: exclude: found \"method\"",
        ),
        (AXES + '[[grids]]\nexclude = [{ method = "fub" }]', r"grids 1: exclude.method: found \"fub\""),
        (AXES + "[[grids]]\nexclude = [{}]", r"grids 1: exclude: found {}, which is everything"),
        (
            AXES + '[[grids]]\naxes = ["link"]\nexclude = [{ link = "slow" }, { link = "fast" }]',
            "every run is excluded",
        ),
        (
            '[axes.a]\nx = { experiment.rounds = 1 }\n[axes.b]\ny = { "experiment.rounds" = 2 }',
            r"grids 1: the axes a and b both change experiment.rounds",
        ),
        (
            "[axes.a]\nx = {}\nx-y = {}\n[axes.b]\ny = { experiment.rounds = 2 }\n"
            '[[grids]]\naxes = ["a"]\n[[grids]]\naxes = ["a", "b"]',
            r"grids 2: two different runs are named x-y",
        ),
        ("base = [", "not TOML"),
        (
            "seeds = [9223372036854775808]\n" + AXES,
            r"seeds: found .*each an integer from 0 to 9223372036854775807",
        ),
        (AXES + '[[grids]]\naxes = [["link"]]', r'grids 1: axes: found \["link"\]'),
        (AXES + "[[grids]]\npoints = { link = [{}] }", r"grids 1: points.link: found {}"),
        (AXES + "[[grids]]\nexclude = [{ link = [1] }]", r"grids 1: exclude.link: found \[1\]"),
        ("[axes.a]\nx = { data.path = " + "[" * 100_000, "nested more than 32 deep"),
        ("seeds = [0x" + "f" * 6000 + "]\n" + AXES, "beyond the range of numbers"),
        ('base = "a\\u0000b"\n' + AXES, "which is no preset and no text file"),
        (f"seeds = {list(range(2501))}\n" + AXES, "grids 1: found 10004 combinations .* at most 10000"),
    ],
)
def test_what_is_wrong_is_told(write, text, message):
    with pytest.raises(ConfigError, match=message):
        plan(write(text))


def test_a_product_of_many_axes_is_counted_before_it_is_made(write):
    axes = "".join(
        f"[axes.a{axis}]\n" + "".join(f"p{axis}{n} = {{}}\n" for n in range(10)) for axis in range(40)
    )
    with pytest.raises(ConfigError, match=f"grids 1: found {10**40} combinations"):
        plan(write(axes))


def test_names_are_short_enough_for_folders(write):
    with pytest.raises(
        ConfigError, match=r"\[axes\] a: found a point named .*allowed: letters, digits .* at most 100"
    ):
        plan(write(f"[axes.a]\n{'x' * 101} = {{}}"))
    axes = "".join(f"[axes.a{axis}]\n{'x' * 100} = {{}}\n" for axis in range(2))
    with pytest.raises(
        ConfigError, match=r"run x*\.\.\.: found a name of 201 characters; allowed: at most 200"
    ):
        plan(write(axes))
    assert len(plan(write(axes.replace("x" * 100, "x" * 99))).runs) == 1


def test_many_grids_are_not_more_than_one(write):
    points = "".join(f"p{n} = {{}}\n" for n in range(100))
    grids = "".join(f"[[grids]]\nseeds = {list(range(100 * n, 100 * n + 90))}\n" for n in range(2))
    with pytest.raises(ConfigError, match="grids 2: found 18000 runs up to here; allowed: at most 10000"):
        plan(write("[axes.a]\n" + points + grids))


def test_a_sweep_with_a_byte_order_mark(write):
    path = write(AXES)
    before = [run.name for run in plan(path).runs]
    Path(path).write_bytes(b"\xef\xbb\xbf" + Path(path).read_bytes())
    assert [run.name for run in plan(path).runs] == before


def test_a_sweep_that_is_not_there(tmp_path):
    with pytest.raises(
        ConfigError, match=r"no such file, and no sweep of that name; did you mean fab-study\?"
    ):
        plan("fab-stdy")
    with pytest.raises(ConfigError, match="cannot be read"):
        plan(str(tmp_path))


def test_sweeps_of_fedmpi_are_sound_and_are_no_presets():
    assert {"fab-study", "fab-study-small"} <= set(STUDIES.names())
    assert not set(STUDIES.names()) & set(preset_names())
    for name in STUDIES.names():
        assert STUDIES.text(name).startswith("# ")
        for run in plan(name).runs:
            validate(run.config)
            assert dumps(run.config)


def test_a_sweep_of_fedmpi_that_is_not_there():
    with pytest.raises(ConfigError, match=r"sweep fab-stduy: unknown; did you mean fab-study\?"):
        STUDIES.text("fab-stduy")
