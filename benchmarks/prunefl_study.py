"""The study of PruneFL on real FEMNIST, with its result tables: benchmarks/prunefl_study.py --data ../shared/data

Runs the sweep ``prunefl-study-small``, then the lottery tickets of its runs ``prunefl`` (``prunefl-lottery-small``,
into the folder of the study with "-lottery" added), and answers: what time, rounds and bytes does each method of
pruning need to the accuracy that is reached without, how large is its model then, and what do PruneFL and adaptive
FAB-top-k save at once beside each alone? The folder given by --data holds femnist_leaf.tar.xz, or train/ and test/
unpacked. An interrupted study goes on where it was if --output is given again. A few hours on two cores.
"""

from __future__ import annotations

import sys
import tempfile
import tomllib
from pathlib import Path

import tomli_w
from femnist_study import data_folder, figures, parser, run_sweep, tables, unpacked_beside

from fedmpi.sweeps import STUDIES


def lottery_sweep(name: str, study: Path, folder: Path) -> Path:
    """The sweep ``name`` as a file in ``folder``, with all its tickets taken from runs of the folder ``study``."""
    content = tomllib.loads(STUDIES.text(name))
    for point in content["axes"]["ticket"].values():
        point["pruning"]["ticket"] = str(study / Path(point["pruning"]["ticket"]).name)
    path = folder / f"{name}.toml"
    path.write_text(tomli_w.dumps(content), encoding="utf-8")
    return path


def main() -> int:
    """Exit code 0 when all runs are complete, else that of a sweep; tables are made of what there is."""
    commands = parser(__doc__.splitlines()[0], "prunefl-study-small")
    commands.add_argument(
        "--lottery", default="prunefl-lottery-small", help="another sweep of lottery tickets"
    )
    commands.add_argument("--target", help="test accuracy to compare at (default: the last without pruning)")
    arguments = commands.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        data = data_folder(arguments.data, unpacked_beside(arguments.output, Path(temporary)))
        study = (arguments.output or Path(temporary) / "study").resolve()
        codes = [run_sweep(arguments.sweep, data, study, arguments)]
        if codes[0] == 2:
            return 2
        tickets = study.with_name(f"{study.name}-lottery")
        sweep = lottery_sweep(arguments.lottery, study, Path(temporary))
        codes.append(run_sweep(str(sweep), data, tickets, arguments))
        folders = [study, *([tickets] if codes[1] != 2 else [])]
        target = ["--target", arguments.target] if arguments.target else []
        tables("prunefl", folders, arguments.table, target)
        if arguments.output:
            figures("prunefl", *folders)
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
