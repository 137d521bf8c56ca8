"""Bytes in the trace are the lengths of the buffers that went through the collectives."""

from pathlib import Path

import numpy as np
import pytest

from fedmpi import trace
from fedmpi.cli import main as cli
from fedmpi.federation import exchange_sparse
from fedmpi.federation.exchange_sparse import SparseExchange
from fedmpi.federation.round_cost import loss_report_bytes
from fedmpi.mpi.collectives import Ranks

FORMS = {
    "coo": ["sparsification.method=fab", "sparsification.wire=coo"],
    "bitmap": ["sparsification.method=fub_flat", "sparsification.wire=bitmap"],
    "dense": ["sparsification.method=unidirectional", "sparsification.wire=dense"],
    "auto": ["sparsification.method=unidirectional", "sparsification.wire=auto"],
    "values": ["sparsification.method=periodic"],
}


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> dict[str, list]:
    """Lengths of what the exchange gathers and broadcasts, in order; ``up`` by client."""
    seen: dict[str, list] = {"up": [], "down": []}
    gather, broadcast = exchange_sparse.gather_messages, Ranks.broadcast_bytes
    finish = SparseExchange.finish

    def recorded_gather(*given):
        gathered = gather(*given)
        seen["up"].append([len(data) for data in gathered])
        return gathered

    def recorded_broadcast(ranks, data):
        copy = broadcast(ranks, data)
        seen["down"].append(len(copy))
        return copy

    monkeypatch.setattr(exchange_sparse, "gather_messages", recorded_gather)

    def recorded_finish(*given):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Ranks, "broadcast_bytes", recorded_broadcast)
            return finish(*given)

    monkeypatch.setattr(SparseExchange, "finish", recorded_finish)
    return seen


def run(output: Path, *overrides: str) -> trace.Trace:
    command = ["run", "quickstart", "experiment.rounds=4", "training.local_steps=2", *overrides]
    assert cli.main([*command, "--output", str(output), "--quiet"]) == 0
    return trace.read(output)


@pytest.mark.parametrize("value_type", ["float32", "float16"])
@pytest.mark.parametrize("form", FORMS)
def test_bytes_of_messages(form: str, value_type: str, tmp_path: Path, lengths: dict[str, list]) -> None:
    fixed = ["k_control.method=fixed", "sparsification.k=150", f"sparsification.value_type={value_type}"]
    clients = run(tmp_path, *FORMS[form], *fixed).clients.groupby("round")
    assert clients["bytes_up"].apply(list).tolist() == lengths["up"]
    # All take part, so what a client downloads is the message of the round before.
    down = clients["bytes_down"].apply(lambda each: each.unique().tolist()).tolist()
    assert down[1:] == [[length] for length in lengths["down"][:-1]]


def test_a_probe_adds_its_entries_down_and_three_losses_up(tmp_path: Path, lengths: dict[str, list]) -> None:
    """The update comes down in the round in which losses are asked for, and the probe's message after it."""
    done = run(tmp_path)
    assert (done.rounds["k_probe"] > 0).all()
    up = np.array(lengths["up"]) + loss_report_bytes(3)
    assert done.clients.groupby("round")["bytes_up"].apply(list).tolist() == up.tolist()
    update, probe = np.array(lengths["down"]).reshape(-1, 2).T
    assert (probe > 0).all()
    model = 16 + 4 * done.attributes["parameters"]
    nothing_new = 16  # the header that says so
    down = update + probe + np.array([model, *[nothing_new] * 3])
    by_round = done.clients.groupby("round")["bytes_down"]
    assert (by_round.nunique() == 1).all()
    assert by_round.first().tolist() == down.tolist()
