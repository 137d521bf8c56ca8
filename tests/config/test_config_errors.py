"""The text of a ConfigError: one line, with keys in TOML's form and files by their names."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config import ConfigError
from fedmpi.config.errors import (
    BAD_CONFIGURATION,
    DONE,
    FAILED,
    PREEMPTED,
    one_line,
    shortened,
    shown_value,
)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("a.b.c", "wrong", "right"), "[a.b] c: wrong; allowed: right"),
        (ConfigError("--ranks", "wrong"), "--ranks: wrong"),
        (ConfigError("a.b", "wrong?", "right", within="my.toml"), "my.toml: [a] b: wrong? allowed: right"),
        (ConfigError("", "not TOML", within="bad.toml"), "bad.toml: not TOML"),
        (
            ConfigError("a.b", "wrong").inside("run x").inside("sweep y.toml"),
            "sweep y.toml: run x: [a] b: wrong",
        ),
    ],
)
def test_what_is_shown(error: ConfigError, text: str):
    assert str(error) == text
    restored = pickle.loads(pickle.dumps(error))
    assert (str(restored), restored.within) == (text, error.within)


@given(st.text(), st.text())
def test_any_text_makes_one_line_that_can_be_printed(key, problem):
    text = str(ConfigError(key, problem, within="a\x1b[31m.toml"))
    assert text.isprintable()
    text.encode("ascii", "backslashreplace").decode("ascii")


def test_letters_of_all_languages_are_left_as_they_are():
    assert one_line("é\n漢 \x1b[0m\udcff") == "é 漢 \\x1b[0m\\udcff"


def test_long_values_are_cut():
    assert shortened("a" * 60) == "a" * 60
    assert shortened("a" * 61) == "a" * 57 + "..."
    assert shown_value("a" * 100) == '"' + "a" * 56 + "..."
    assert len(str(ConfigError("a" * 5000, "unknown"))) < 220
    assert shown_value(True) == "true"
    assert shown_value(10**5000) == shown_value([10**5000]) == "a number of thousands of digits"


def test_exit_codes_are_those_that_scripts_wait_for():
    assert (DONE, FAILED, BAD_CONFIGURATION, PREEMPTED) == (0, 1, 2, 75)
