"""What is measured on runs: accuracies, times, bytes and energy, what clients contribute."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedmpi.analysis.client_sums import ClientSums, sums_of
from fedmpi.analysis.runs import AnalysisError, Run, not_recorded
from fedmpi.trace import Trace


def common_time(runs: Sequence[Run]) -> float:
    """An emulated moment that all runs have reached, in seconds: where all were to stop, or the latest there is.

    Runs that are not complete are not waited for, unless there are no others.
    """
    waited_for = [run for run in runs if run.complete] or runs
    latest = min(run.end_s for run in waited_for)
    stops = {run.trace.config["experiment"].get("stop_at_emulated_s") for run in waited_for}
    stop = stops.pop() if len(stops) == 1 else None
    return float(stop) if stop is not None and stop <= latest else latest


def evaluations(run: Run) -> pd.DataFrame:
    """The rounds in which the model was evaluated."""
    return run.trace.rounds.dropna(subset=["test_accuracy"])


def accuracy_at(run: Run, time_s: float) -> float:
    """The last test accuracy measured up to an emulated moment; NaN before the first, and after the run's end."""
    measured = evaluations(run)
    before = measured.test_accuracy[measured.end_s <= time_s]
    return float(before.iloc[-1]) if len(before) and time_s <= run.end_s else nan


def mean_accuracy_at(runs: Sequence[Run], time_s: float) -> float:
    """The mean over runs; NaN where it is not known of all of them."""
    return float(np.mean([accuracy_at(run, time_s) for run in runs]))


def reaching(run: Run, accuracy: float) -> pd.Series | None:
    """The first evaluated round with at least this accuracy; None when there was none."""
    measured = evaluations(run)
    reached = measured[measured.test_accuracy >= accuracy]
    return reached.iloc[0] if len(reached) else None


def time_to(run: Run, accuracy: float) -> float:
    """The emulated moment of the first evaluation with at least this accuracy; NaN when there was none."""
    row = reaching(run, accuracy)
    return nan if row is None else float(row.end_s)


def late_k(run: Run) -> float:
    """The median k of the last quarter of the federated rounds."""
    k = run.trace.rounds.k[run.trace.rounds["round"] >= 0]
    return float(k.iloc[len(k) * 3 // 4 :].median())


def contributions(trace: Trace) -> pd.DataFrame:
    """How many of its entries the server used, for every client and every federated round that its update counted in.

    Columns ``client``, ``round`` and ``entries_used``.
    """
    counted = (trace.clients.status == "ok") & (trace.clients["round"] >= 0)
    return trace.clients.loc[counted, ["client", "round", "entries_used"]]


def even_shares(run: Run) -> tuple[int, ...]:
    """The least and the greatest floor(k / N) of the federated rounds, N being the participants of a round.

    Nothing where nobody took part in any.
    """
    rounds = run.trace.rounds[(run.trace.rounds["round"] >= 0) & (run.trace.rounds.participants > 0)]
    shares = rounds.k // rounds.participants
    return (int(shares.min()), int(shares.max())) if len(shares) else ()


def client_means(trace: Trace) -> np.ndarray:
    """Mean entries used in a round, of every client of which an update counted, ascending float64."""
    sums = sums_of(trace)
    there = sums.counted > 0
    return np.sort(sums.entries_used[there] / sums.counted[there])


def cost_to(run: Run, accuracy: float) -> dict[str, float]:
    """What a run had spent at the first evaluation with at least this accuracy; NaN where there was none.

    ``time_s``, ``rounds`` (federated ones), ``mbytes`` (of all clients, up and down, initial pruning included),
    and the ``active`` parameters and the ``share`` of all parameters that they are.
    """
    row = reaching(run, accuracy)
    if row is None:
        return dict.fromkeys(("time_s", "rounds", "mbytes", "active", "share"), nan)
    until = run.trace.rounds[run.trace.rounds["round"] <= row["round"]]
    return {
        "time_s": float(row.end_s),
        "rounds": float(row["round"]) + 1,
        "mbytes": float((until.bytes_up + until.bytes_down).sum()) / 1e6,
        "active": float(row.active_parameters),
        "share": float(row.active_parameters) / run.trace.attributes["parameters"],
    }


def accuracy_at_round(run: Run, round_index: int) -> float:
    """The last test accuracy measured up to a round; NaN before the first."""
    measured = evaluations(run)
    before = measured.test_accuracy[measured["round"] <= round_index]
    return float(before.iloc[-1]) if len(before) else nan


def last_accuracy(run: Run) -> float:
    """The test accuracy of the last evaluation."""
    return float(evaluations(run).test_accuracy.iloc[-1])


def bytes_so_far(trace: Trace) -> pd.Series:
    """Bytes of all clients' messages, up and down, from the first to each round, initial pruning included."""
    return (trace.rounds.bytes_up + trace.rounds.bytes_down).cumsum()


def energy_so_far(trace: Trace) -> pd.Series:
    """Joules of all clients from the first to each round; NaN from a participant on whose device's are not known.

    AnalysisError for a trace without energy.
    """
    return pd.Series(energy_sums(trace).by_round.energy_j.cumsum(), index=trace.rounds.index)


def energy_sums(trace: Trace) -> ClientSums:
    """The sums of a trace with energy. AnalysisError for one without."""
    sums = sums_of(trace)
    if not sums.has_energy:
        raise not_recorded(trace, "clients", "energy_j")
    return sums


def client_energies(trace: Trace) -> NDArray[np.float64]:
    """Joules of every client that took part, in the whole run, (n,) rising by client; NaN where not all are known.

    AnalysisError for a trace without energy.
    """
    return energy_sums(trace).by_client.energy_j


def mean_parts(run: Run) -> np.ndarray:
    """The mean seconds of a participant in a federated round, for each of PARTS: float64 (4,).

    AnalysisError where nobody took part in one.
    """
    sums = sums_of(run.trace)
    if not sums.federated:
        raise AnalysisError(f"{run.trace.path}: there is no federated round with participants")
    means: np.ndarray = sums.federated_s / sums.federated
    return means
