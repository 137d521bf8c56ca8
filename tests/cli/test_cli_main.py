"""The command line as a process: exit codes, one line for what is wrong, and no traceback for it."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedmpi import __version__
from fedmpi.cli import bench, presets
from fedmpi.cli import main as cli
from fedmpi.config import ConfigError, loads, preset_names, preset_text

ROOT = Path(__file__).resolve().parents[2]

LONG = "a" * 300


def environment(**more: str) -> dict[str, str]:
    launch = ("PMI_", "PMIX_", "OMPI_", "MPI_", "SLURM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(launch)}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def fedmpi(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedmpi", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "fedmpi: the following arguments are required: COMMAND"),
        (
            ["rum"],
            "fedmpi rum: unknown command; did you mean run? allowed: run, check, sweep, status, summarize, "
            "plot, report, tables, figures, convert, retime, map, verify, presets, export, calibrate, devices, doctor, "
            "bench, data",
        ),
        (["run"], "fedmpi run: the following arguments are required: CONFIG"),
        (
            ["run", "quickstart", "--rnaks", "2"],
            "fedmpi run: unknown argument --rnaks; did you mean --ranks?",
        ),
        (
            ["run", "quickstart", "--ranks", "0"],
            "fedmpi run: argument --ranks: found 0; allowed: an integer from 1 to 2147483647",
        ),
        (["run", "quickstart", "--ranks", "two"], "fedmpi run: argument --ranks: found two; allowed"),
        (["run", "quickstart", "--resume", "--overwrite"], "not allowed with argument --resume"),
        (
            ["run", "quikstart", "--ranks", "2"],
            "quikstart: no such file, and no preset of that name; did you mean quickstart?",
        ),
        (["run", "none.toml", "--ranks", "2"], "configuration none.toml: no such file"),
        (["run", "quickstart", "--ranks", "10"], "ranks: found 10 for 8 clients; allowed: at most 9"),
        (
            ["run", "quickstart", "--ranks", "2", "training.learing_rate=1"],
            "[training] learing_rate: unknown key; did you mean learning_rate?",
        ),
        (
            ["run", "quickstart", "training.momentum=2", "--ranks", "2"],
            "[training] momentum: found 2.0; allowed: ",
        ),
        (
            ["run", "--ranks", "2", "quickstart", "nonsense"],
            "override nonsense: not of the form; allowed: section.key=value",
        ),
        (
            ["run", "quickstart", "--ranks", "2", "emulation.compute.profile=raspberry-pi-44"],
            "emulation.compute.profile: ",
        ),
        (
            ["run", "quickstart", "--ranks", "2", "data.dataset=idx", "data.path=nowhere"],
            '[data] path: found "nowhere", which does not exist',
        ),
        (["check", "quickstart", "training.batch_size=1.5"], "[training] batch_size: found 1.5"),
        (["check", "quickstart", "--ranks", "11"], "ranks: found 11 for 8 clients"),
        (["presets", "quick"], "preset quick: unknown; did you mean quickstart?"),
        (["presets", "quickstart", "more"], "fedmpi presets: unknown argument more"),
        (["bench", "no-such-benchmark"], "no-such-benchmark"),
        (
            ["bench", "collectives", "--length", "7"],
            "fedmpi bench collectives: unrecognized arguments: --length 7",
        ),
        (
            ["bench", "collectives", "--lengths", "0"],
            "argument --lengths: found 0; allowed: an integer from 1 to",
        ),
        (
            ["bench", "collectives", "--ranks", "x"],
            "fedmpi bench collectives: argument --ranks: found x; allowed",
        ),
        (["doctor", "--fast"], "fedmpi doctor: unknown argument --fast"),
    ],
)
def test_bad_arguments_exit_with_2_and_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith(("PMI", "OMPI", "SLURM"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("fedmpi")
    assert err.count("\n") == 1
    assert not out
    assert not list(tmp_path.iterdir())


def test_a_process_exits_the_same_way(tmp_path):
    result = fedmpi("run", "quickstart", "--ranks", "3", "training.loss=mse", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == 'fedmpi: [training] loss: found "mse"; allowed: cross_entropy, bce_one_hot\n'
    assert not result.stdout


def test_only_rank_0_of_a_launch_tells_of_bad_arguments(tmp_path):
    first = fedmpi("run", "--bad", cwd=tmp_path, PMI_RANK="0", PMI_SIZE="2")
    second = fedmpi("run", "--bad", cwd=tmp_path, PMI_RANK="1", PMI_SIZE="2")
    assert (first.returncode, second.returncode) == (2, 2)
    assert first.stderr.count("\n") == 1
    assert not second.stderr


@pytest.mark.parametrize("ranks", [[], ["--ranks", "2"]])
@pytest.mark.parametrize("refused", ["training.momentum=2", "--output=."])
def test_neither_mpi_nor_torch_nor_pandas_is_needed_to_refuse_a_run(ranks, refused, tmp_path):
    (tmp_path / "a file").touch()
    code = (
        "import sys; from fedmpi.cli.main import main; "
        f"code = main({['run', 'quickstart', *ranks, refused]}); "
        "print(code, [m for m in ('torch', 'mpi4py.MPI', 'pandas') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout == "2 []\n"


def test_version_and_help(capsys):
    for arguments, text in ((["--version"], __version__), (["run", "--help"], "section.key=value")):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 0
        assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [*([name] for name in cli._COMMANDS), ["devices", "import"]], ids=" ".join
)
def test_every_command_describes_itself(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([*command, "--help"])
    assert caught.value.code == 0
    given = capsys.readouterr()
    assert given.out.startswith(f"usage: fedmpi {command[0]}")
    assert given.err == ""


def test_overrides_may_stand_anywhere():
    parsed = cli._parse(["run", "a.b=1", "--ranks", "2", "c.d=3", "--quiet", "e.f=4", "g.h=5"])
    assert (parsed.config, parsed.overrides) == ("a.b=1", ["c.d=3", "e.f=4", "g.h=5"])
    parsed = cli._parse(["run", "--ranks", "2", "x.toml", "--output", "o", "c.d=3"])
    assert (parsed.config, parsed.overrides, parsed.ranks) == ("x.toml", ["c.d=3"], 2)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("a.b", "wrong"), 2),
        (OSError(28, "No space left on device"), 1),
        (OSError(36, "File name too long"), 2),
        (MemoryError("a lot"), 1),
        (ValueError("a bug"), None),
    ],
)
def test_errors_have_exit_codes_and_bugs_have_none(error, code):
    assert cli.exit_code(error) == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["check", "quickstart", f"data.path={LONG}"],
            "[data] path: found .*, which cannot be read: File name too long",
        ),
        (
            ["check", "quickstart", "pruning.method=lottery_reinit", f"pruning.ticket={LONG}"],
            "[pruning] ticket: found",
        ),
        (["run", "quickstart", "--output", LONG], "--output: .* cannot be used: File name too long"),
        (["calibrate", "mlp", "--device", "d", "--output", LONG], "File name too long"),
        (["check", LONG], "configuration .* cannot be read: File name too long"),
        (["sweep", LONG, "--list"], "sweep .* cannot be read: File name too long"),
        (["check", "quickstart", f"emulation.compute.profile={LONG}.csv"], "File name too long"),
        (["check", "quickstart", "experiment.seed=1" + "0" * 5000], "a number of thousands of digits"),
        (
            ["check", "quickstart", "training.local_epochs=1000000"],
            "[training] local_epochs: found 1000000, with",
        ),
        (
            ["run", "quickstart", "training.local_epochs=1000000"],
            "[training] local_epochs: found 1000000, with",
        ),
        (
            ["check", "quickstart", "model.hidden=[1000000000]"],
            "model: mlp has D = 75000000010 parameters; allowed:",
        ),
        (
            ["run", "quickstart", "model.hidden=[1000000000]"],
            "model: mlp has D = 75000000010 parameters; allowed:",
        ),
        (["presets", "a\x1b[31m\nb"], r"preset a\x1b[31m b: unknown"),
        (["run", "quickstart", "--ranks", "9" * 5000], "argument --ranks: found 999"),
    ],
)
def test_arguments_of_any_length_are_refused_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert all(part in err for part in message.split(".*"))
    assert err.count("\n") == 1


def test_the_errors_of_the_parts_are_told_in_one_line():
    from fedmpi.emulation.errors import EmulationError
    from fedmpi.learning.datasets import DataError
    from fedmpi.mpi.guards import LaunchError

    assert cli.exit_code(DataError("x")) == 2
    assert cli.exit_code(EmulationError("x")) == 2
    assert cli.exit_code(LaunchError("x", reporter=True)) == 1


def test_a_bug_shows_its_traceback(monkeypatch, capsys):
    def broken(arguments):
        raise ZeroDivisionError("here")

    monkeypatch.setattr(presets, "execute", broken)
    assert cli.main(["presets"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "ZeroDivisionError: here" in err


def test_an_interrupt_is_one_line(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(presets, "execute", interrupted)
    assert cli.main(["presets"]) == 1
    assert capsys.readouterr().err == "fedmpi: interrupted\n"


def test_a_reader_that_goes_away_is_no_error_of_ours(tmp_path):
    command = f"{sys.executable} -m fedmpi presets quickstart | true; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() in ("0", "1")
    assert not result.stderr


def test_presets_are_listed_and_printed(capsys):
    assert cli.main(["presets"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == preset_names()
    assert cli.main(["presets", "quickstart"]) == 0
    assert loads(capsys.readouterr().out) == loads(preset_text("quickstart"))


def test_benchmarks_are_run_from_the_source_tree_with_their_arguments(tmp_path, monkeypatch, capfd):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "echo.py").write_text(
        '"""Says it again.\n\nMore.\n"""\nimport sys\nsys.exit(print(sys.argv[1:]) or 3)\n'
    )
    (tmp_path / "benchmarks" / "_shared.py").write_text("")
    monkeypatch.setattr(bench.fedmpi, "__file__", str(tmp_path / "fedmpi" / "__init__.py"))
    assert cli.main(["bench"]) == 0
    collectives = "collectives  What collectives take on your ranks: fedmpi's beside bare MPI's.\n"
    assert capfd.readouterr().out == f"{collectives}echo         Says it again.\n"
    assert cli.main(["bench", "echo", "--fast", "7"]) == 3
    assert capfd.readouterr().out == "['--fast', '7']\n"
    assert cli.main(["bench", "ecko"]) == 2
    assert "benchmark ecko: unknown; did you mean echo? allowed: collectives, echo" in capfd.readouterr().err


def test_without_a_source_tree_there_is_one_benchmark(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench.fedmpi, "__file__", str(tmp_path / "fedmpi" / "__init__.py"))
    assert cli.main(["bench"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("collectives  ")
    assert cli.main(["bench", "topk"]) == 2
    error = "benchmark topk: unknown; allowed: collectives, or in a source tree of fedmpi its benchmarks\n"
    assert capsys.readouterr().err == f"fedmpi: {error}"


@pytest.mark.parametrize("command", cli._COMMANDS)
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    assert left.value.code == 0
    assert f"usage: fedmpi {command}" in capsys.readouterr().out


def test_a_working_directory_that_is_gone_is_one_line(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    code = cli.main(["presets"])
    monkeypatch.chdir(tmp_path)
    assert code == 2
    problem = "cannot be found: No such file or directory; allowed: a folder that is still there"
    assert capsys.readouterr().err == f"fedmpi: the working directory: {problem}\n"


def test_output_that_cannot_be_written_is_one_line(tmp_path):
    command = f"unset PYTHONUNBUFFERED; {sys.executable} -m fedmpi presets > /dev/full; echo $?"
    result = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert result.stdout == "1\n"
    assert result.stderr == "fedmpi: standard output cannot be written: No space left on device\n"


def test_characters_that_standard_output_lacks_are_escaped(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    monkeypatch.setattr(presets, "execute", lambda arguments: print("größe") or 0)
    assert cli.main(["presets"]) == 0
    assert written.getvalue() == rb"gr\xf6\xdfe" + b"\n"
