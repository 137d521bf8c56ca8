"""A trace in other forms: CSV and Parquet files of its tables, and event files of TensorBoard.

Beside the tables lie ``config.toml`` (the resolved configuration) and ``attributes.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from fedmpi.analysis.runs import AnalysisError
from fedmpi.trace import Trace

SCALARS = (
    "test_accuracy",
    "test_loss",
    "train_loss",
    "k",
    "density",
    "bytes_up",
    "bytes_down",
    "learning_rate",
)
"""Columns of ``rounds`` that TensorBoard gets, each with the rounds in which it was measured."""


def tables_of(trace: Trace) -> dict[str, pd.DataFrame]:
    """All tables that the trace has, by their names in the file."""
    return {name: value for name, value in vars(trace).items() if isinstance(value, pd.DataFrame)}


def write_csv(trace: Trace, folder: Path) -> list[Path]:
    """A file for each table, with every digit; what was not measured is empty."""
    return _write_tables(trace, folder, "csv", lambda table, path: table.to_csv(path, index=False))


def write_parquet(trace: Trace, folder: Path) -> list[Path]:
    """A file for each table, compressed with zstd; names such as statuses are dictionaries. Needs pyarrow."""
    return _write_tables(
        trace,
        folder,
        "parquet",
        lambda table, path: table.to_parquet(path, engine="pyarrow", compression="zstd", index=False),
    )


def write_tensorboard(trace: Trace, folder: Path) -> list[Path]:
    """An event file with the columns SCALARS over rounds. Needs tensorboardX.

    Its clock is the emulated one: with the horizontal axis "relative" TensorBoard shows emulated time. Initial pruning
    is left out, as TensorBoard has no steps below 0.
    """
    from tensorboardX import SummaryWriter

    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.iterdir())
    rounds = trace.rounds[trace.rounds["round"] >= 0]
    writer = SummaryWriter(str(folder), write_to_disk=True)
    try:
        for column in SCALARS:
            measured = rounds[["round", "end_s", column]].dropna()
            for step, end_s, value in measured.itertuples(index=False):
                writer.add_scalar(f"{_group(column)}/{column}", value, int(step), walltime=float(end_s))
    finally:
        writer.close()
    return sorted(set(folder.iterdir()) - before)


FORMS: dict[str, Callable[[Trace, Path], list[Path]]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "tensorboard": write_tensorboard,
}
NEEDS = {"parquet": "pyarrow", "tensorboard": "tensorboardX"}
"""Form -> the package that it needs."""


def check_folder(folder: Path, overwrite: bool) -> None:
    """AnalysisError where the folder cannot take files, or has some that nobody asked to replace."""
    if folder.exists() and not folder.is_dir():
        raise AnalysisError(f"--output: {folder} is a file; allowed: a folder")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise AnalysisError(f"--output: {folder} is not empty; allowed: --overwrite, or another folder")


def _write_tables(
    trace: Trace, folder: Path, suffix: str, write: Callable[[pd.DataFrame, Path], object]
) -> list[Path]:
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, table in tables_of(trace).items():
        paths.append(folder / f"{name}.{suffix}")
        with _writing(paths[-1]):
            write(table, paths[-1])
    attributes = {name: value for name, value in trace.attributes.items() if name != "config_toml"}
    texts = {
        "config.toml": str(trace.attributes["config_toml"]),
        "attributes.json": json.dumps(attributes, indent=1) + "\n",
    }
    for name, text in texts.items():
        paths.append(folder / name)
        with _writing(paths[-1]):
            paths[-1].write_text(text, encoding="utf-8")
    return paths


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """AnalysisError that names the file or folder where it cannot be written; no part of a file is left."""
    try:
        yield
    except OSError as error:
        if path.is_file():
            path.unlink()
        raise AnalysisError(f"{path}: cannot be written: {error.strerror or error}") from error


def _group(column: str) -> str:
    """The section of TensorBoard's page that a column stands in."""
    if column.startswith("bytes"):
        return "bytes"
    return "learning" if column.endswith(("accuracy", "loss", "rate")) else "method"
