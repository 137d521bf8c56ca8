"""TOML text and files: what they hold, or one line that says why not."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config.toml import TomlError, parse, read_text


def refusal(text: str) -> TomlError:
    with pytest.raises(TomlError) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    return caught.value


def test_what_is_toml_is_read():
    assert parse("a = 1\n[b]\nc = [inf, -inf, 1e308]\n") == {
        "a": 1,
        "b": {"c": [float("inf"), -float("inf"), 1e308]},
    }


def test_a_syntax_error_says_where():
    error = refusal("x\n")
    assert str(error).startswith("not TOML: ")
    assert "line 1" in str(error)
    assert error.is_syntax


@pytest.mark.parametrize(
    "number", ["1" + "0" * 5000, "1" + "0" * 400, "-1" + "0" * 400, "0x" + "f" * 5000, "1e400", "-1e309"]
)
def test_numbers_beyond_the_range_are_refused_wherever_they_stand(number):
    for text in (f"x = {number}", f"[a.b]\nx = [1, {{ y = {number} }}]"):
        error = refusal(text)
        assert "beyond the range of numbers" in str(error)
        assert len(str(error)) < 100
        assert not error.is_syntax


def test_numbers_just_within_the_range_are_read():
    assert parse(f"x = {2**1023 - 1}\ny = 1e308\nz = 0x{'f' * 200}")["x"] == 2**1023 - 1


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 100_000,
        "x = " + "[" * 40 + "]" * 40,
        "a" + ".a" * 100_000 + " = 1",
        "[a" + ".a" * 40 + "]",
    ],
)
def test_what_is_nested_too_deep_is_refused(text):
    assert "nested more than 32 deep" in str(refusal(text))


def test_depth_is_counted_from_the_outermost_table():
    deepest = "x = " + "[" * 31 + "]" * 31
    assert parse(deepest)
    refusal("[a]\n" + deepest)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    with suppress(TomlError):
        assert isinstance(parse(text), dict)


def test_files_in_utf8_with_and_without_a_mark(tmp_path: Path):
    for name, content in (("a", b"x = '\xc3\xa9'\r\n"), ("b", b"\xef\xbb\xbfx = '\xc3\xa9'\n")):
        (tmp_path / name).write_bytes(content)
        assert parse(read_text(tmp_path / name)) == {"x": "é"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\n".encode("utf-16"), "cannot be read: UTF-16"),
        (b"\xfe\xff\x00x", "cannot be read: UTF-16"),
        (b"x = '\xe9'", "cannot be read: not UTF-8 text"),
    ],
)
def test_other_encodings_are_named(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(TomlError) as caught:
        read_text(tmp_path / "a.toml")
    assert str(caught.value) == message


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "a.toml")
    for path, message in (
        (tmp_path, "Is a directory"),
        (tmp_path / ("a" * 300), "File name too long"),
        (tmp_path / "a\0b", "NUL"),
    ):
        with pytest.raises(TomlError, match=f"cannot be read: .*{message}"):
            read_text(path)


def test_a_file_without_an_end_is_refused():
    with pytest.raises(TomlError, match="cannot be read: it has more than 268,435,456 bytes"):
        read_text(Path("/dev/zero"))
