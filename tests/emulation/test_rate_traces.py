"""Recorded rates of links: two formats told apart by content, folders, and one line for whatever is no trace."""

import os
import tarfile
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.rate_traces import read_trace, trace_files


def written(tmp_path, text, name="link"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_chances_of_mahimahi_are_counted_in_bins_that_hold_their_end(tmp_path):
    rate = read_trace(written(tmp_path, "0\n100\n100\n500\n501\n1200\n"), 0.5)
    np.testing.assert_allclose(rate.starts_s, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(rate.bytes_per_s, [4 * 1500 / 0.5, 1500 / 0.5, 1500 / 0.2])
    assert rate.period_s == 1.2
    finer = read_trace(tmp_path / "link", 0.1)
    assert finer.mean_bytes_per_s == pytest.approx(6 * 1500 / 1.2)
    assert finer.starts_s[1] == 0.1


@settings(max_examples=50)
@given(
    milliseconds=st.lists(st.integers(0, 5000), min_size=2, max_size=60).filter(lambda m: max(m) > 0),
    bin_s=st.sampled_from([0.001, 0.1, 0.5, 0.7, 9.0]),
)
def test_every_chance_of_mahimahi_is_in_the_loop(tmp_path_factory, milliseconds, bin_s):
    path = written(tmp_path_factory.mktemp("traces"), "\n".join(map(str, sorted(milliseconds))))
    rate = read_trace(path, bin_s)
    assert rate.period_s == max(milliseconds) / 1000
    assert rate.mean_bytes_per_s * rate.period_s == pytest.approx(1500 * len(milliseconds))


@settings(max_examples=100)
@given(
    milliseconds=st.lists(st.integers(0, 12_000), min_size=2, max_size=30).filter(lambda m: max(m) > 0),
    ends=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    bin_s=st.sampled_from(["0.007", "0.05", "0.1", "0.3", "0.7"]),
)
def test_rounding_of_a_bin_in_decimals_moves_no_chance(tmp_path_factory, milliseconds, ends, bin_s):
    exact = Fraction(bin_s)
    milliseconds = sorted(milliseconds + [int(1000 * exact) * end for end in ends])
    path = written(tmp_path_factory.mktemp("traces"), "\n".join(map(str, milliseconds)))
    rate = read_trace(path, float(bin_s))
    period = Fraction(milliseconds[-1], 1000)
    for number in range(ceil(period / exact)):
        begin, end = number * exact, min((number + 1) * exact, period)
        chances = [m for m in milliseconds if begin < Fraction(m, 1000) <= end or m == 0 == number]
        step = np.searchsorted(rate.starts_s, float((begin + end) / 2)) - 1
        assert rate.bytes_per_s[step] == pytest.approx(float(1500 * len(chances) / (end - begin)))


@pytest.mark.parametrize(
    "text",
    ["10 1\n11 0\n13.5 2.5\n", "10,1\r\n11, 0\r\n13.5,2.5\r\n", "\ufeff10\t1\n\n11\t0\n13.5\t2.5"],
)
def test_two_columns_are_seconds_and_mbit_per_s_from_then_on(tmp_path, text):
    rate = read_trace(written(tmp_path, text), 0.5)
    np.testing.assert_array_equal(rate.starts_s, [0.0, 1.0, 3.5])
    np.testing.assert_array_equal(rate.bytes_per_s, [125_000.0, 0.0, 312_500.0])
    assert rate.period_s == 6.0


FORMATS = "; allowed: one integer millisecond a line"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a trace of text\n", ", line 1: found 'a trace of text'" + FORMATS),
        ("1\n2\nx\n", ", line 3: found 'x'" + FORMATS),
        ("1\n2.5\n", ", line 2: found 2.5" + FORMATS),
        ("1\n\n7\n5\n", ", line 4: found 5 after 7; allowed: milliseconds that do not fall"),
        ("7\n", ": found one line; allowed: two lines or more"),
        ("0 7\n", ": found one line; allowed: two lines or more"),
        ("0\n0\n0\n", ": found no millisecond after 0, so that nothing is ever sent" + FORMATS),
        ("0 0\n1 0\n", ": found only rates of 0, so that nothing is ever sent" + FORMATS),
        ("0 1\n2 1\n1 1\n", ", line 3: found second 1 after 2; allowed: seconds that rise"),
        ("0 1\n1 1\n1 1\n", ", line 3: found second 1 after 1; allowed: seconds that rise"),
        ("0 1\n1 nan\n", ", line 2: found '1 nan'; allowed: finite numbers, 0 or more"),
        ("0 1\n1 inf\n", ", line 2: found '1 inf'; allowed: finite numbers, 0 or more"),
        ("0 1\n1 -1\n", ", line 2: found '1 -1'; allowed: finite numbers, 0 or more"),
        ("-5\n1\n", ", line 1: found '-5'; allowed: finite numbers, 0 or more"),
        ("0 1\n1 2e6\n", ", line 2: found 2e+06 Mbit/s; allowed: 0, or a number from 1e-06 to 1e+06"),
        ("0 1\n1 9e-7\n", ", line 2: found 9e-07 Mbit/s; allowed: 0, or a number from 1e-06 to 1e+06"),
        ("0 1\n1e308 2\n", ": found a loop of inf s; allowed: at most 1e+09"),
        ("0 1\n1\n", ", line 2: found '1'" + FORMATS),
        ("1\n2 3\n", ", line 2: found '2 3'" + FORMATS),
        ("1\n1_0\n", ", line 2: found '1_0'" + FORMATS),
        ("0 1\n1 \u0967\n", ", line 2: found '1 \u0967'" + FORMATS),
        ("1 2 3\n1 2 3\n", ", line 1: found '1 2 3'" + FORMATS),
        ("", ": found no lines" + FORMATS),
        (" \n\n", ": found no lines" + FORMATS),
        (b"\xff\xfe1\n", ": found bytes that are no text in UTF-8" + FORMATS),
        (b"\0\0", ", line 1: found '??'" + FORMATS),
        (
            "1\n99999999999999\n",
            ": found 1e+11 s in bins of trace_bin_s = 0.5; allowed: at most 10000000 bins",
        ),
        ("0 1\n1e9 2\n", ": found a loop of 2e+09 s; allowed: at most 1e+09"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_line_that_names_it(tmp_path, text, found):
    path = written(tmp_path, text)
    with pytest.raises(EmulationError) as error:
        read_trace(path, 0.5)
    assert str(error.value).startswith(f"{path}{found}")
    assert "\n" not in str(error.value)


def test_a_million_lines(tmp_path):
    milliseconds = np.sort(np.random.default_rng(0).integers(0, 10**6, 10**6))
    rate = read_trace(written(tmp_path, "\n".join(map(str, milliseconds.tolist()))), 0.5)
    assert rate.mean_bytes_per_s * rate.period_s == pytest.approx(1.5e9)
    assert 1900 <= rate.starts_s.size <= 2000


def test_recorded_cellular_and_broadband_traces_load(shared_dir, tmp_path):
    for archive, folder, count in (("mahimahi", "mahimahi_traces", 15), ("hsdpa_fcc_train", "train", 127)):
        with tarfile.open(shared_dir / "data" / "network" / f"{archive}.tar.xz") as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # not before Python 3.11.4
            tar.extractall(tmp_path)
        files, left_out = trace_files("key", str(tmp_path / folder))
        assert len(files) == count
        assert all(path.name.startswith("README") for path in left_out)
        means = [read_trace(path, 0.5).mean_bytes_per_s * 8e-6 for path in files]
        assert 0.1 < min(means) < max(means) < 20.0


def test_a_file_that_has_changed_is_read_again(tmp_path):
    assert read_trace(written(tmp_path, "0 1\n1 2\n"), 0.5).peak_bytes_per_s == 250_000.0
    assert read_trace(written(tmp_path, "0 1\n1 10\n"), 0.5).peak_bytes_per_s == 1_250_000.0


def test_files_of_folders_and_lists_in_sorted_order(tmp_path):
    for name in ("b.up", "a.up", "README.md", ".hidden"):
        written(tmp_path, "1\n2\n", name)
    (tmp_path / "inner").mkdir()
    other = written(tmp_path / "inner", "1\n2\n", "0")
    files, left_out = trace_files("key", str(tmp_path))
    assert files == (tmp_path / "a.up", tmp_path / "b.up")
    assert left_out == (tmp_path / ".hidden", tmp_path / "README.md")
    files, left_out = trace_files(
        "key", [str(tmp_path / "b.up"), str(tmp_path / "inner"), str(tmp_path / "a.up")]
    )
    assert files == (tmp_path / "a.up", tmp_path / "b.up", other)
    assert left_out == ()


def test_what_does_not_exist_and_folders_without_traces_are_refused(tmp_path):
    with pytest.raises(
        EmulationError, match=r"key: found .*nowhere.*, which does not exist; allowed: a file"
    ):
        trace_files("key", str(tmp_path / "nowhere"))
    written(tmp_path, "about", "README")
    with pytest.raises(EmulationError, match=r"key: found no trace in the folder .*; allowed: a folder with"):
        trace_files("key", str(tmp_path))
    with pytest.raises(EmulationError, match="which cannot be read: File name too long"):
        trace_files("key", "x" * 5000)


def test_what_is_neither_a_file_nor_a_folder_is_refused(tmp_path):
    """A link to nowhere is not left out in silence, and a pipe is not waited for."""
    written(tmp_path, "1\n2\n", "good")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for found in (str(pipe), str(tmp_path)):
        with pytest.raises(
            EmulationError, match=r"key: found '.*pipe', which is neither a file nor a folder"
        ):
            trace_files("key", found)
    pipe.unlink()
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    with pytest.raises(EmulationError, match=r"key: found '.*lost', which is neither a file nor a folder"):
        trace_files("key", str(tmp_path))
    (tmp_path / "lost").unlink()
    (tmp_path / "other").symlink_to(tmp_path / "good")
    assert trace_files("key", str(tmp_path))[0] == (tmp_path / "good", tmp_path / "other")
