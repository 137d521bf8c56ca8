"""Pages of real and of made-up runs."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest
import tomli_w

from fedmpi.config import dumps, loads
from fedmpi.trace import Phase, TraceWriter
from fedmpi.trace.schema import TABLES, Status

HOSTILE = "<script>alert(1)<&b>\"'${x}"
"""A name that would do something in a page which did not escape it."""


@pytest.fixture(scope="session")
def eventful(tmp_path_factory):
    """A run with a hostile name: 6 rounds of clients 0 to 3 with a download of 1 s, training of 2 s, and an upload of
    3 s plus their number. Some are late or dropped, energy is known of all but client 3, and clients are tested."""
    path = tmp_path_factory.mktemp("eventful") / "trace.h5"
    content = tomllib.loads(dumps(loads("[clients]\ncount = 4\n[experiment]\nrounds = 6\n")))
    content["experiment"]["name"] = HOSTILE
    content["emulation"]["energy"] = {"on": True}
    attributes = {
        "config_toml": tomli_w.dumps(content),
        "seed": 1,
        "clients": 4,
        "ranks": 1,
        "parameters": 100,
        "layer_names": ["weight"],
        **dict.fromkeys(("host", "mpi_library", "slurm_job_id"), ""),
    }
    clients = np.arange(4)
    integers = {name: 0 for name in TABLES["rounds"].names if TABLES["rounds"][name].kind == "i"}
    counts = {name: 0 for name in TABLES["clients"].names if TABLES["clients"][name].kind == "i"}
    writer = TraceWriter.create(path, attributes)
    writer.append(
        devices={
            "client": clients,
            "device": ["small", "small", "<i>large", "<i>large"],
            **dict.fromkeys(("uplink_bytes_per_s", "downlink_bytes_per_s"), 1e5),
            "latency_s": 0.0,
            **dict.fromkeys(("samples", "test_samples", "labels", "writers"), 5),
        }
    )
    for number in range(6):
        statuses = [Status.OK, Status.OK, Status.LATE, Status.DROPPED if number == 5 else Status.OK]
        writer.append(
            clients={
                **counts,
                "round": np.full(4, number),
                "client": clients,
                "status": np.array(statuses),
                "download_s": 1.0,
                "compute_s": 2.0,
                "upload_s": 3.0 + clients,
                "wait_s": 3.0 - clients,
                "entries_used": 10 * (clients + 1),
                "energy_j": np.where(clients == 3, np.nan, 1.0 + clients),
            },
            client_tests={
                "round": np.full(4, number),
                "client": clients,
                "samples": 5,
                "loss": 0.5,
                "accuracy": clients / 4,
            },
            rounds={
                **integers,
                "round": number,
                "phase": Phase.FEDERATED,
                "start_s": 9.0 * number,
                "end_s": 9.0 * (number + 1),
                "host_s": 0.5,
                "participants": 4,
                "dropped": 1,
                "test_accuracy": 0.1 * number if number % 2 == 0 else np.nan,
                "test_loss": np.nan,
                "k": 10 + number,
                "density": 1.0,
                "bytes_up": 1000,
                "bytes_down": 3000,
            },
        )
    writer.append(events={"round": 5, "time_s": 54.0, "kind": "rejected", "detail": HOSTILE})
    writer.close("completed")
    return path
