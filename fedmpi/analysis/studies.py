"""The figures and tables of the two papers, made of the runs of a study: ``fedmpi figures`` and ``fedmpi tables``.

``fab`` is the study of FAB-top-k, as ``fedmpi sweep fab-study`` runs it; the figures are

- ``methods``: test loss and accuracy over emulated time, sparsification methods at the same k
- ``k_over_rounds``: what every controller makes of k
- ``fixed_and_adaptive_k``: accuracy at a fixed time, against fixed k and with adaptive k, for each beta
- ``contributions``: how much of each client's uploads is used, as distributions

``prunefl`` is the study of PruneFL, as ``fedmpi sweep prunefl-study`` runs it; the figures are

- ``accuracy_over_time`` and ``accuracy_over_rounds``: test accuracy of every method of pruning
- ``model_size``: active parameters over rounds, those of initial pruning included, and over emulated time
- ``lottery``: the mask PruneFL ended with, trained from the first weights and from new ones, by round; the runs
  of ``fedmpi sweep prunefl-lottery``
- ``layer_density``: what PruneFL leaves of each layer

Runs of one configuration, which differ in their seeds alone, are drawn together. Whatever else differs in the
configurations makes another line, whose label names it; so do runs that are not complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedmpi.analysis import fab_figures, prunefl_figures
from fedmpi.analysis.drawing import Draw, write
from fedmpi.analysis.runs import AnalysisError, Run

FIGURES: Mapping[str, Mapping[str, tuple[Draw, str]]] = {
    "fab": fab_figures.FIGURES,
    "prunefl": prunefl_figures.FIGURES,
}


def draw(study: str, runs: Sequence[Run], folder: Path, suffix: str, time_s: float | None) -> list[str]:
    """Write all figures that can be drawn into ``folder``; one line for each, drawn or not.

    AnalysisError where they cannot be written.
    """
    lines = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AnalysisError(
            f"--output: {folder} cannot be made: {error.strerror}; allowed: a folder"
        ) from None
    for name, (figure_of, needs) in FIGURES[study].items():
        figure = figure_of(runs, time_s)
        path = folder / f"{name}.{suffix}"
        if figure is None:
            lines.append(f"{name}: not drawn, it needs {needs}")
        else:
            write(figure, path)
            lines.append(f"{name}: {path}")
    return lines
