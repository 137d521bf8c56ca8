"""What cannot be run is refused on all ranks with one line; what fails on the way leaves a trace that can be read."""

from __future__ import annotations

import gzip
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from experiments import write_config

from fedmpi import trace


def write_idx(folder: Path, cut: int = 0) -> None:
    """A tiny MNIST of 50 training and 10 test images; ``cut`` bytes are missing from the training images."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for part, count, missing in (("train", 50, cut), ("t10k", 10, 0)):
        images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        content = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape) + images.tobytes()
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(content[: len(content) - missing])
        )
        labels = draw.integers(0, 10, count, dtype=np.uint8)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">4BI", 0, 0, 8, 1, count) + labels.tobytes()
        )


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["sparsification.k=100000"], "at most D = "),
        (["training.learing_rate=1"], "did you mean learning_rate"),
        (["clients.count=300", "data.alpha=0.001"], "without any of"),
        (["data.dataset=idx", "data.path={data}"], "train-images-idx3-ubyte.gz"),
        (["model.name=json:nothing"], "[model] name"),
        (["emulation.compute.profile=raspberry-pi-44"], "raspberry-pi-4"),
    ],
)
def test_refused_before_anything_starts(launch, tmp_path: Path, overrides: list[str], told: str) -> None:
    write_idx(tmp_path / "data", cut=100)
    config = write_config(tmp_path, "fab_fixed")
    keys = [override.format(data=tmp_path / "data") for override in overrides]
    if "sparsification.k=100000" in keys:
        keys.append("sparsification.k_fraction=0.0")
    done = launch(3, "-m", "fedmpi", "run", config, *keys, "--output", tmp_path / "run", check=False)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "run" / "trace.h5").exists()


def test_more_ranks_than_clients(launch, tmp_path: Path) -> None:
    config = write_config(tmp_path, "dense")
    output = ("--output", tmp_path / "run")
    done = launch(
        4, "-m", "fedmpi", "run", config, "clients.count=2", "clients.per_round=2", *output, check=False
    )
    assert done.returncode == 2
    assert "at most 3" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_run_folder_is_not_overwritten_unasked(launch, tmp_path: Path) -> None:
    config = write_config(tmp_path, "dense")
    run = ("-m", "fedmpi", "run", config, "experiment.rounds=2", "--output", tmp_path / "run", "--quiet")
    launch(2, *run)
    done = launch(2, *run, check=False)
    assert done.returncode == 2
    assert "--overwrite" in done.stderr
    launch(2, *run, "--overwrite")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_ends_all_ranks_and_loses_nothing(launch, tmp_path: Path, small_disk: Path) -> None:
    config = write_config(tmp_path, "dense")
    overrides = ["clients.count=60", "clients.per_round=60", "data.partition=iid", "experiment.rounds=100000"]
    done = launch(
        3, "-m", "fedmpi", "run", config, *overrides, "experiment.evaluate_every=1000", "training.local_steps=1",
        "--output", small_disk / "run", "--quiet", check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "trace.h5" in done.stderr
    left = trace.read(small_disk / "run")
    assert len(left.rounds) == left.attributes["committed_rounds"] > 50
    assert (left.clients.groupby("round").size() == 60).all()
