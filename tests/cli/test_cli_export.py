"""``fedmpi export`` on a real run: its files agree, and what is wrong takes one line."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fedmpi.cli import main as cli
from fedmpi.export import ExportError, load, metadata_of

RUN = """
[experiment]
name = "small"
seed = 3
rounds = 6
evaluate_every = 6
checkpoint_every = 3
[clients]
count = 2
[model]
name = "conv2"
[training]
batch_size = 10
[pruning]
method = "prunefl"
reconfigure_every = 2
[emulation.compute]
model = "linear"
profile = "raspberry-pi-4"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, clean_environment) -> Path:
    """The folder of a finished run that pruned its model."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "small.toml").write_text(RUN)
    command = [sys.executable, "-m", "fedmpi", "run", "small.toml", "--output", "run", "--quiet"]
    subprocess.run(command, cwd=folder, env=clean_environment, check=True, timeout=200)
    return folder / "run"


def test_dense_and_sparse_files_of_a_run_agree(finished, tmp_path, capsys):
    paths = {form: tmp_path / form for form in ("dense", "sparse")}
    for form, path in paths.items():
        assert cli.main(["export", str(finished), "--format", form, "--output", str(path)]) == 0
        out = capsys.readouterr().out
        assert out.splitlines()[-1] == f"{path}: {path.stat().st_size:,} bytes, the model after 6 rounds"
        header, *rows, total, _ = out.splitlines()
        assert header.split() == ["layer", "shape", "active", "density", "bytes", "dense", "bytes", "sparse"]
        assert [row.split()[0] for row in rows] == [
            *("conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"),
            "4",
        ]
        assert total.split()[0] == "all"
    density = metadata_of(paths["sparse"])["density"]
    assert 0.0 < density < 0.8
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load(paths["dense"])(x)
        torch.testing.assert_close(load(paths["sparse"], "sparse")(x), expected, rtol=1e-4, atol=1e-5)
    state = load(paths["dense"]).state_dict()
    weights = [state[f"{name}.weight"] for name in ("conv1", "conv2", "fc1", "fc2")]
    active = sum(int(w.count_nonzero()) for w in weights)
    assert active <= density * sum(w.numel() for w in weights) + 0.5


def test_the_file_lies_in_the_run_folder_and_is_not_replaced_unasked(finished, capsys):
    arguments = ["export", str(finished), "--format", "sparse"]
    assert cli.main(arguments) == 0
    capsys.readouterr()
    path = finished / "model-sparse.safetensors"
    written = path.stat().st_ino
    assert cli.main(arguments) == 2
    assert f"{path} exists already; allowed: --overwrite" in capsys.readouterr().err
    assert path.stat().st_ino == written
    assert cli.main([*arguments, "--overwrite"]) == 0
    assert path.stat().st_ino != written


def test_the_checkpoint_before_a_damaged_one_is_taken(finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    damaged = run / "checkpoint" / "round-00000006" / "server.npz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    output = tmp_path / "model"
    arguments = ["export", str(run), "--format", "dense", "--output", str(output)]
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert err.startswith("warning: checkpoint round-00000006 is passed over: ")
    assert out.splitlines()[-1].endswith("the model after 3 rounds")
    assert metadata_of(output)["rounds"] == 3
    (run / "checkpoint" / "round-00000003" / "manifest.json").write_text("{}")
    assert cli.main([*arguments, "--overwrite"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "round-00000006 is passed over" in err
    assert "round-00000003 is passed over" in err


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda folder: None, "RUN: {folder} is no folder"),
        (lambda folder: folder.mkdir(), "RUN: {folder} holds no config.toml"),
        (
            lambda folder: (folder.mkdir(), (folder / "config.toml").write_text("")),
            "RUN: {folder} holds no checkpoint",
        ),
    ],
)
def test_folders_without_a_model_are_refused(made, message, tmp_path, capsys):
    folder = tmp_path / "run"
    made(folder)
    assert cli.main(["export", str(folder), "--format", "dense"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"fedmpi: {message.format(folder=folder)}; allowed: ")
    assert err.count("\n") == 1


def test_outputs_that_cannot_be_are_refused(finished, tmp_path, capsys):
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "no" / "file", "is no folder")):
        assert cli.main(["export", str(finished), "--format", "dense", "--output", str(path)]) == 2
        assert message in capsys.readouterr().err


def test_code_that_a_run_folder_names_is_not_run_unless_the_caller_names_it(
    finished, tmp_path, capsys, monkeypatch
):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace('"conv2"', '"named_by_folder:make"'))
    code = "from fedmpi.learning.models.conv2 import conv2\ndef make(shape, classes): return conv2(shape, classes)\n"
    (tmp_path / "named_by_caller.py").write_text(code)
    (tmp_path / "named_by_folder.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["export", str(run), "--format", "dense", "--output", str(tmp_path / "model")]
    assert cli.main(arguments) == 0  # the checkpoint knows the layout of the weights
    without_code = load_file(tmp_path / "model")
    assert cli.main([*arguments, "--overwrite", "--factory", "named_by_caller:make"]) == 0
    with_code = load_file(tmp_path / "model")
    assert {name: tensor.tolist() for name, tensor in without_code.items()} == {
        name: tensor.tolist() for name, tensor in with_code.items()
    }
    assert "named_by_folder" not in sys.modules
    with pytest.raises(ExportError, match="named_by_folder:make"):
        load(tmp_path / "model")


def test_mpi_is_not_needed(finished, tmp_path, clean_environment):
    code = (
        "import sys; from fedmpi.cli.main import main; "
        f"code = main(['export', {str(finished)!r}, '--format', 'dense', '--output', 'm']); "
        "print(code, 'mpi4py.MPI' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=clean_environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "0 False"
