"""Draw the figures of a published study: ``python analysis/figures.py fab|prunefl STUDY_DIR [--output DIR]``.

``fab`` is the study of FAB-top-k, as ``fedmpi sweep fab-study`` runs it; the figures are

- ``methods``: test loss and accuracy over emulated time, sparsification methods at the same k
- ``k_over_rounds``: what every controller makes of k
- ``fixed_and_adaptive_k``: accuracy at a fixed time, against fixed k and with adaptive k, for each beta
- ``contributions``: how much of each client's uploads is used, as distributions

``prunefl`` is the study of PruneFL, as ``fedmpi sweep prunefl-study`` runs it; the figures are

- ``accuracy_over_time`` and ``accuracy_over_rounds``: test accuracy of every method of pruning
- ``model_size``: active parameters over rounds, those of initial pruning included, and over emulated time
- ``lottery``: the mask PruneFL ended with, trained from the first weights and from new ones, by round; the runs
  of ``fedmpi sweep prunefl-lottery``, in the folder ``--lottery``
- ``layer_density``: what PruneFL leaves of each layer

Runs of one configuration, which differ in their seeds alone, are drawn together. Whatever else differs in the
configurations makes another line, whose label names it; so do runs that are not complete. Lines say which runs and
figures are missing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import fab_figures
import prunefl_figures
from command import Parser
from drawing import Draw
from study import StudyRun

FIGURES: Mapping[str, Mapping[str, tuple[Draw, str]]] = {
    "fab": fab_figures.FIGURES,
    "prunefl": prunefl_figures.FIGURES,
}


def draw(study: str, runs: Sequence[StudyRun], folder: Path, suffix: str, time_s: float | None) -> list[str]:
    """Write all figures that can be drawn into ``folder``; one line for each, drawn or not."""
    told = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, (figure_of, needs) in FIGURES[study].items():
        figure = figure_of(runs, time_s)
        path = folder / f"{name}.{suffix}"
        if figure is None:
            told.append(f"{name}: not drawn, it needs {needs}")
        else:
            figure.savefig(path, dpi=150)
            told.append(f"{name}: {path}")
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit code 2 for bad arguments, a folder without runs, and figures that cannot be written."""
    parser = Parser(prog="figures.py", description="Draw the figures of a published study.")
    parser.add_argument("study", choices=FIGURES, help="fab: FAB-top-k, prunefl: PruneFL")
    parser.add_argument("folder", metavar="STUDY_DIR", type=Path, help="folder of run folders")
    parser.add_argument(
        "--lottery", type=Path, metavar="DIR", help="prunefl: folder of the lottery tickets' runs"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: STUDY_DIR/figures")
    parser.add_argument(
        "--time",
        type=float,
        metavar="S",
        help="emulated seconds for the comparison of k (fab), at which time axes end (prunefl)",
    )
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png")
    options = parser.parse_args(arguments)
    if options.lottery is not None and options.study != "prunefl":
        parser.error(f"--lottery is of the study prunefl, found {options.study}")
    runs = parser.runs(*filter(None, (options.folder, options.lottery)))
    folder = options.output if options.output is not None else options.folder / "figures"
    try:
        for line in draw(options.study, runs, folder, options.format, options.time):
            print(line)
    except OSError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
