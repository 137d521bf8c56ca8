"""Running a study on FEMNIST and making its tables and figures; what the studies' scripts share."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

import numpy as np

from fedmpi import trace
from fedmpi.cli import main as cli
from fedmpi.emulation.profiles import built_in_devices

ARCHIVE = "femnist_leaf.tar.xz"


def parser(description: str, sweep: str, needs_data: bool = True) -> argparse.ArgumentParser:
    """The arguments of a study whose usual sweep is ``sweep``."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument(
        "--data", type=Path, required=needs_data, help=f"folder with {ARCHIVE}, or train/ and test/"
    )
    arguments.add_argument("--output", type=Path, help="folder of the study (default: a temporary one)")
    arguments.add_argument("--sweep", default=sweep, help="another sweep of the same shape")
    arguments.add_argument("--base", help="another base of the sweep: other data, models, devices")
    arguments.add_argument("--jobs", type=int, help="runs at the same time (default: one for each core)")
    arguments.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override for all runs, e.g. fewer rounds",
    )
    arguments.add_argument("--table", type=Path, metavar="FILE.md", help="write the tables there too")
    return arguments


def data_folder(folder: Path, unpacked: Path, every: int = 1) -> Path:
    """LEAF's ``train`` and ``test``: ``folder`` itself, or its archive unpacked into ``unpacked``, once.

    Of an archive's test files every ``every``-th is kept. The path is part of each run's configuration: runs of one
    study need the same one.
    """
    if not (folder / ARCHIVE).is_file():
        return folder.resolve()
    if unpacked.is_dir():
        return next(path.parent for path in unpacked.rglob("train") if path.is_dir()).resolve()
    temporary = unpacked.with_name(f"{unpacked.name}.partial")
    with tarfile.open(folder / ARCHIVE) as file:
        file.extraction_filter = getattr(tarfile, "data_filter", None)  # not before Python 3.11.4
        file.extractall(temporary)
    data = next(path.parent for path in temporary.rglob("train") if path.is_dir())
    tests = sorted((data / "test").glob("*.json"))
    for path in set(tests) - set(tests[::every]):
        path.unlink()
    temporary.rename(unpacked)
    return (unpacked / data.relative_to(temporary)).resolve()


def unpacked_beside(output: Path | None, temporary: Path) -> Path:
    """Where an archive is unpacked: beside the study that is kept, so that it can be gone on with, or for this time."""
    return temporary / "femnist" if output is None else output.with_name(f"{output.name}-data")


def run_sweep(sweep: str, data: Path | None, output: Path, arguments: argparse.Namespace) -> int:
    """All runs of a sweep into ``output``, those that are there already left alone; the sweep's exit code."""
    path = [] if data is None else [f"data.path={data}"]
    base = ["--base", arguments.base] if arguments.base else []
    command = [sys.executable, "-m", "fedmpi", "sweep", sweep, *base, *path, *arguments.set]
    jobs = ["--jobs", str(arguments.jobs)] if arguments.jobs else []
    began = time.perf_counter()
    code = subprocess.run([*command, "--output", str(output), *jobs], check=False).returncode
    print(f"\n{output.name}: {(time.perf_counter() - began) / 60:.1f} minutes of host time\n", flush=True)
    return code


def tables(name: str, folders: Sequence[Path], file: Path | None, more: Sequence[str] = ()) -> None:
    """Print the tables of a study in some folders, and write them to ``file`` too."""
    text = subprocess.run(
        [sys.executable, "-m", "fedmpi", "tables", name, *map(str, folders), *more],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    print(text, end="")
    if file is not None:
        file.write_text(text, encoding="utf-8")


def figures(name: str, *folders: Path) -> None:
    """The figures of the study in the first of the folders, into it."""
    command = [sys.executable, "-m", "fedmpi", "figures", name, *map(str, folders)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def retimed(run: Path, keys: Sequence[str], output: Path) -> Path:
    """The folder ``output`` with the run in ``run`` retimed with ``keys``, made unless it is there."""
    if not output.exists():
        assert cli.main(["retime", str(run), *keys, "--output", str(output)]) == 0
    return output


@dataclass(frozen=True)
class Amounts:
    """What a run took up to an accuracy: emulated seconds, bytes both ways, and joules of training and waiting."""

    seconds: float
    bytes: float
    joules: float


def amounts_to(folder: Path, accuracy: float) -> Amounts:
    """What a run took up to the first evaluation at ``accuracy``; NaN: never."""
    run = trace.read(folder)
    rounds = run.rounds
    found = np.flatnonzero(rounds["test_accuracy"] >= accuracy)
    if not len(found):
        return Amounts(nan, nan, nan)
    until = rounds.iloc[: found[0] + 1]
    return Amounts(
        seconds=float(until["end_s"].iloc[-1]),
        bytes=float((until["bytes_up"] + until["bytes_down"]).sum()),
        joules=joules_until(run, int(until["round"].iloc[-1])),
    )


def joules_until(run: trace.Trace, last_round: int) -> float:
    """What training and waiting took the built-in devices up to a round.

    No power of theirs while sending or receiving is known; devices of which none is known are left out.
    """
    rows = run.clients[run.clients["round"] <= last_round].merge(
        run.devices[["client", "device"]], on="client"
    )
    known = built_in_devices()
    return sum(
        float(spent["compute_s"].sum()) * known[name].powers.compute_w
        + float(spent["wait_s"].sum()) * known[name].powers.idle_w
        for name, spent in rows.groupby("device")
        if name in known
    )
