"""From finished rounds to the rows of the trace and the progress line, on rank 0."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.config import dumps
from fedmpi.emulation.energy import energy_j
from fedmpi.experiment.assembly import Run
from fedmpi.experiment.model import work_of
from fedmpi.experiment.progress import Progress
from fedmpi.experiment.recorded_work import ATTRIBUTE, ModelWork
from fedmpi.experiment.resuming import Identity
from fedmpi.experiment.watch import Watch
from fedmpi.federation.initial_pruning.local_rounds import InitialServer
from fedmpi.federation.round_halves import RoundReport
from fedmpi.mpi.library import library_name
from fedmpi.trace import FILE_NAME, Phase, Status, TraceWriter, read

_DEVICE_ROWS = 65_536


class Recorder:
    """Writes what happens in a run, and reports it. Raises TraceError when the trace cannot be written."""

    def __init__(
        self, run: Run, output: Path, progress: Progress, keep_rounds: int | None, identity: Identity
    ) -> None:
        """``keep_rounds``: how many rounds of an existing trace are kept (resume); None: a new trace."""
        self.run = run
        self.progress = progress
        path = output / FILE_NAME
        attributes = {**_attributes(run), **identity.values()}
        self.watch = Watch(progress.warn)
        if keep_rounds is None:
            self.writer = TraceWriter.create(path, attributes)
            self._devices(run.devices or {})
        else:
            before = read(path)
            rounds, events = (
                table[table["round"].between(0, keep_rounds - 1)] for table in (before.rounds, before.events)
            )
            not_finite = (events["kind"] == "rejected") & events["detail"].str.startswith("client ")
            self.watch = Watch(progress.warn, int(rounds["participants"].sum()), int(not_finite.sum()))
            self.writer = TraceWriter.open_for_append(path, keep_rounds, attributes)
        if not keep_rounds and (run.initial is None or not run.initial.pending):
            self._layers(0, run.masked.mask.active_per_layer(run.model.layers))

    def round(self, report: RoundReport) -> None:
        """One finished round."""
        closed, plan = report.closed, report.closed.plan
        judged, charges = closed.judged, closed.charges
        accepted = judged.accepted
        run = self.run
        if plan.round_index and report.mask_since == plan.round_index:
            self._layers(plan.round_index, report.mask.active_per_layer(run.model.layers))
        row = {
            "round": plan.round_index,
            "phase": Phase.FEDERATED,
            "start_s": charges.start_s,
            "end_s": charges.end_s,
            "host_s": report.host_s,
            "participants": len(plan.participants),
            "dropped": int(np.count_nonzero(~accepted)),
            "learning_rate": plan.learning_rate,
            "train_loss": closed.train_loss,
            "test_loss": report.test_loss,
            "test_accuracy": report.test_accuracy,
            "k": plan.k,
            "k_probe": plan.k_probe,
            "k_down": closed.k_down,
            "active_parameters": report.mask.count,
            "density": report.mask.density(run.model.layers),
            "bytes_up": int(charges.bytes_up.sum()),
            "bytes_down": int(charges.bytes_down.sum()),
            "mpi_bytes": report.carried_bytes,
        }
        clients = {
            "round": plan.round_index,
            "client": plan.participants,
            "rank": report.rank_of,
            "status": judged.verdict["status"].astype(np.int64),
            "samples": np.where(charges.trained, judged.records["samples"], 0),
            "download_s": charges.download_s,
            "compute_s": charges.compute_s,
            "upload_s": charges.upload_s,
            "wait_s": charges.wait_s,
            "bytes_down": charges.bytes_down,
            "bytes_up": charges.bytes_up,
            "entries_sent": np.where(charges.arrived, judged.records["entries"], 0),
            "entries_used": closed.entries_used,
            "train_loss": np.where(charges.trained, judged.records["train_loss"], np.nan),
            "overrun_s": report.overrun_s,
            # The model of the period's start: within a period of matched fedavg, clients go on from own weights.
            "version": plan.round_index - plan.round_index % run.exchange.period,
            "staleness": 0,
            "energy_j": self._energy_j(
                plan.participants, charges.download_s, charges.compute_s, charges.upload_s, charges.wait_s
            ),
            "released_s": report.released_s,
        }

        def event(kind: str, detail: str, facts: Mapping[str, Any]) -> None:
            self.event(plan.round_index, charges.end_s, kind, detail, facts)

        if closed.idle_s > 0.0:
            detail = f"nobody was available for {closed.idle_s:.6g} s before the round"
            self.event(plan.round_index, charges.start_s, "idle", detail, {"idle_s": closed.idle_s})
        rejected = judged.staying & ~np.isfinite(judged.records["max_abs"])
        for client in plan.participants[rejected].tolist():
            event("rejected", f"client {client}: update is not finite", {"client": client})
        if judged.abandoned:
            arrived = int(np.count_nonzero(judged.staying & ~rejected))
            wanted = run.config.federation.min_updates
            detail = f"{arrived} updates, fewer than federation.min_updates = {wanted}"
            event("abandoned", detail, {"updates": arrived, "min_updates": wanted})
        if left_out := report.importance_left_out:
            event("rejected", f"importance of {left_out} clients is not finite", {"importance_of": left_out})
        if report.change is not None:
            facts = report.change.facts
            event("pruning", ", ".join(f"{name} {value:g}" for name, value in facts.items()), facts)
        late, missed = self.watch.timed(
            f"round {plan.round_index}",
            "participants got or sent a message",
            charges.duration_s * run.config.emulation.time_scale,
            report.overrun_s,
            report.unready_s,
        )
        if late:
            if report.start_overrun_s > 0.0:
                late += f"; the round started {report.start_overrun_s:.3g} s late"
            event("overrun", late, {**missed, "start_overrun_host_s": report.start_overrun_s})
        self.writer.append(clients=clients, rounds=row, client_tests=_client_tests(report))
        self.writer.commit()
        self.watch.judged(plan.round_index, rejected)
        self.progress.update(row)

    def _energy_j(self, clients: NDArray[np.int64], *seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Joules (n,) of ``clients`` (n,) that spend ``seconds`` (n,) in download, training, upload and wait.

        NaN where energy is not asked for.
        """
        server = self.run.server
        if server is None or not self.run.config.emulation.energy.on:
            return np.full(len(clients), np.nan)
        return energy_j(server.accountant.fleet.powers, clients, *seconds)

    def local_round(self, initial: InitialServer) -> None:
        """One finished local round of initial pruning, for the reader of the progress line."""
        schedule, row = initial.schedule, initial.rows[-1]
        self.progress.initial(schedule.rounds, initial.max_rounds, row, initial.base.now_s)

    def initial(self, initial: InitialServer) -> None:
        """All local rounds of initial pruning, which has finished: rounds -r to -1, and the first mask of round 0."""
        rows, count = initial.rows, len(initial.rows)
        number = np.arange(-count, 0)
        at_client = initial.client is not None
        carried = np.where(number == -1, self.run.ranks.carried_bytes, 0)
        columns = {name: rows[name] for name in ("start_s", "end_s", "host_s", "train_loss", "density")}
        rounds = columns | {
            "round": number,
            "phase": np.full(count, int(Phase.INITIAL_PRUNING)),
            "participants": np.full(count, int(at_client)),
            "learning_rate": np.full(count, initial.training.learning_rate),
            "active_parameters": rows["active"],
            "bytes_up": rows["bytes_up"],
            "bytes_down": rows["bytes_down"],
            "mpi_bytes": carried,
        }
        rounds |= dict.fromkeys(("dropped", "k", "k_probe", "k_down"), np.zeros(count, np.int64))
        clients = None
        if at_client:
            same = ("samples", "download_s", "compute_s", "upload_s", "bytes_down", "bytes_up")
            clients = {name: rows[name] for name in (*same, "entries_sent", "train_loss", "overrun_s")} | {
                "round": number,
                "client": np.full(count, initial.client),
                "rank": np.zeros(count, np.int64),
                "status": np.full(count, int(Status.OK)),
                "wait_s": np.where(np.isnan(rows["compute_s"]), np.nan, 0.0),
                "entries_used": rows["entries_sent"],
                "version": np.zeros(count, np.int64),
                "staleness": np.zeros(count, np.int64),
            }
            spent = ("download_s", "compute_s", "upload_s", "wait_s")
            clients["energy_j"] = self._energy_j(clients["client"], *(clients[name] for name in spent))
        for first, active in initial.masks:
            self._layers(first - count, active)
        if initial.masks[-1][0] != count:
            self._layers(0, initial.masks[-1][1])
        for at, time_s, kind, detail, facts in initial.events:
            self.event(at - count, time_s, kind, detail, facts)
        if at_client:
            lasted_s = (rows["end_s"] - rows["start_s"]) * self.run.config.emulation.time_scale
            late, missed = self.watch.timed(
                "initial pruning", "local rounds ended", lasted_s, rows["overrun_s"]
            )
            if late:
                self.event(-1, float(rows["end_s"][-1]), "overrun", late, missed)
        self.writer.append(clients=clients, rounds=rounds)
        self.writer.commit()
        self.progress.message(f"initial pruning {initial.events[-1][3]}")

    def event(
        self, round_index: int, time_s: float, kind: str, detail: str, facts: Mapping[str, Any]
    ) -> None:
        """Something that happened once, in words and as facts by name."""
        self.writer.append(
            events={"round": round_index, "time_s": time_s, "kind": kind, "detail": detail, "details": facts}
        )

    def _devices(self, columns: Mapping[str, Any]) -> None:
        """The rows of all clients, some at a time."""
        clients = len(columns["client"])
        for start in range(0, clients, _DEVICE_ROWS):
            rows = slice(start, start + _DEVICE_ROWS)
            some = {name: each if np.isscalar(each) else each[rows] for name, each in columns.items()}
            self.writer.append(devices=some)
            self.commit()

    def commit(self) -> None:
        """Everything so far is on the disk when this returns; done before every checkpoint."""
        self.writer.commit(force=True)

    def close(self, status: str) -> None:
        """The last word of the trace."""
        self.writer.close(status)

    def _layers(self, round_index: int, active: np.ndarray | Sequence[int]) -> None:
        layers = self.run.model.layers
        self.writer.append(
            layers={
                "round": round_index,
                "layer": np.arange(len(layers)),
                "active": active,
                "total": np.array([layer.stop - layer.start for layer in layers]),
            }
        )


def _client_tests(report: RoundReport) -> Mapping[str, Any] | None:
    if report.client_tests is None:
        return None
    rows = report.client_tests
    columns = {name: rows[name] for name in ("client", "samples", "loss", "accuracy")}
    return {"round": report.closed.plan.round_index, **columns}


def _attributes(run: Run) -> Mapping[str, Any]:
    return {
        "config_toml": dumps(run.config),
        "seed": run.config.experiment.seed,
        "clients": run.config.clients.count,
        "ranks": run.ranks.size,
        "parameters": run.model.parameter_count,
        "layer_names": [layer.name for layer in run.model.layers],
        "host": platform.node(),
        "mpi_library": library_name(),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID", ""),
        **_model_work(run),
    }


def _model_work(run: Run) -> Mapping[str, str]:
    """What the run can be timed by again on other devices (``retiming``).

    The work of a user's model is counted only where the run counts it itself: its code might notice.
    """
    if run.server is None:
        return {}
    counted = run.model.known or run.server.accountant.fleet.compute.model.needs_work
    work = work_of(run.config, run.model, run.facts) if counted else None
    return {ATTRIBUTE: ModelWork.of(run.model.layers, work).to_text()}
