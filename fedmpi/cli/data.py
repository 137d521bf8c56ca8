"""List public data sets, tell of one where it comes from, or fetch it with --to.

Files are checked against published checksums. Data sets that need a registration or a program of their
owners are not fetched: the command says what to do by hand, and exits with 1 when it was asked to fetch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fedmpi.config import ConfigError
from fedmpi.config.spelling import did_you_mean
from fedmpi.learning.sources import MANUAL, PUBLIC, ManualDataset, PublicDataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the data set")
    parser.add_argument("--to", type=Path, metavar="DIR", help="fetch it into this new or empty folder")


def execute(arguments: argparse.Namespace) -> int:
    """0 when the list, the description or the data set was given; 1 where it must be fetched by hand."""
    name, folder = arguments.name, arguments.to
    if name is None:
        if folder is not None:
            raise ConfigError("fedmpi data --to", "no data set named", ", ".join([*PUBLIC, *MANUAL]))
        _list()
        return 0
    if name in MANUAL:
        _tell_by_hand(name, MANUAL[name])
        return 0 if folder is None else 1
    if name not in PUBLIC:
        names = [*PUBLIC, *MANUAL]
        raise ConfigError(f"data set {name}", f"unknown{did_you_mean(name, names)}", ", ".join(names))
    if folder is None:
        _describe(name, PUBLIC[name])
        return 0
    _fetch(PUBLIC[name], folder)
    return 0


def _list() -> None:
    width = max(map(len, (*PUBLIC, *MANUAL)))
    for name, public in PUBLIC.items():
        print(f"{name:{width}}  {public.title}, {_size_mb(public):.0f} MB")
    for name, manual in MANUAL.items():
        print(f"{name:{width}}  {manual.title}, to be fetched by hand")


def _describe(name: str, source: PublicDataset) -> None:
    print(f"{name}: {source.title}\nfedmpi data {name} --to DIR fetches {_size_mb(source):.0f} MB:")
    for file in source.files:
        print(f"  {file.url}  sha256 {file.sha256}")


def _tell_by_hand(name: str, source: ManualDataset) -> None:
    print(f"{name}: {source.title}\nIt must be fetched by hand. {source.steps}")
    print(f'In a configuration: [data] dataset = "{source.dataset}", path = "DIR"')


def _fetch(source: PublicDataset, folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        problem = f"{folder} is not empty" if folder.is_dir() else f"{folder} is a file"
        raise ConfigError("--to", problem, "a new or empty folder")
    from fedmpi.learning.download import fetch  # slow to import: readers need torch

    train, test = fetch(source, folder, report=lambda line: print(line, flush=True))
    print(f"{folder} holds {train:,} training and {test:,} test samples")
    print(f'In a configuration: [data] dataset = "{source.dataset}", path = "{folder}"')


def _size_mb(source: PublicDataset) -> float:
    return sum(file.size_mb for file in source.files)
