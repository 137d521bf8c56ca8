"""Draw the figures of a published study: ``python analysis/figures.py fab STUDY_DIR [--output DIR]``.

``fab`` is the study of FAB-top-k, as ``fedmpi sweep fab-study`` runs it; the figures are

- ``methods``: test loss and accuracy over emulated time, sparsification methods at the same k
- ``k_over_rounds``: what every controller makes of k
- ``fixed_and_adaptive_k``: accuracy at a fixed time, against fixed k and with adaptive k, for each beta
- ``contributions``: how much of each client's uploads is used, as distributions

Runs and figures that are missing are told.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from arguments import OneLineParser
from fab_figures import FIGURES
from study import Study, load_study


def draw(study: Study, folder: Path, suffix: str, time_s: float | None) -> list[str]:
    """Write all figures that can be drawn into ``folder``; one line for each, drawn or not."""
    told = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, (figure_of, needs) in FIGURES.items():
        figure = figure_of(study.runs, time_s)
        path = folder / f"{name}.{suffix}"
        if figure is None:
            told.append(f"{name}: not drawn, it needs {needs}")
        else:
            figure.savefig(path, dpi=150)
            told.append(f"{name}: {path}")
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit code 2 for bad arguments, a folder without runs, and figures that cannot be written."""
    parser = OneLineParser(prog="figures.py", description="Draw the figures of a published study.")
    parser.add_argument(
        "study", choices=["fab"], help="fab: FAB-top-k, gradient sparsification with adaptive k"
    )
    parser.add_argument("folder", metavar="STUDY_DIR", type=Path, help="folder of run folders")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: STUDY_DIR/figures")
    parser.add_argument("--time", type=float, metavar="S", help="emulated seconds for the comparison of k")
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png")
    options = parser.parse_args(arguments)
    try:
        study = load_study(options.folder)
        for remark in study.remarks:
            print(remark, file=sys.stderr)
        if not study.runs:
            parser.error(f"{options.folder}: no run with an evaluated model is there")
        folder = options.output if options.output is not None else options.folder / "figures"
        for line in draw(study, folder, options.format, options.time):
            print(line)
    except OSError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
