"""``fedmpi bench collectives`` on several ranks: every operation is measured, and printed once."""

from __future__ import annotations

import json
import subprocess

import pytest
from libraries import Mpi, both_mpis

OPERATIONS = ["Reduce", "Bcast", "Gather", "Gatherv", "average, shared memory", "average, no shared memory"]


@both_mpis
@pytest.mark.parametrize("ranks", [1, 3])
def test_every_operation_and_length_is_measured(launch, ranks: int) -> None:
    command = ["-m", "fedmpi", "bench", "collectives", "--lengths", "2", "20000", "--repeats", "2", "--json"]
    found = json.loads(launch(ranks, *command).stdout)
    assert (found["ranks"], found["nodes"], found["repeats"]) == (ranks, 1, 2)
    assert found["mpi"].startswith(("MPICH", "Open MPI"))
    expected = [name for name in OPERATIONS if ranks > 1 or name != "average, shared memory"]
    assert [row["operation"] for row in found["timings"]] == expected * 2
    assert [row["values"] for row in found["timings"]] == [2] * len(expected) + [20_000] * len(expected)
    for row in found["timings"]:
        assert row["bare_s"] > 0
        if row["operation"] == "Reduce":
            assert row["fedmpi_s"] is row["ratio"] is None
        else:
            assert row["ratio"] == row["fedmpi_s"] / row["bare_s"]


def test_ranks_are_started_and_a_table_is_printed_once(mpi: Mpi) -> None:
    command = [mpi.python, "-m", "fedmpi", "bench", "collectives"]
    options = ["--ranks", "2", "--lengths", "1234", "--repeats", "1"]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=240, env=mpi.environment(), check=True
    )
    first, empty, head, *rows = done.stdout.splitlines()
    assert first.startswith("2 ranks on 1 node, ")
    assert first.endswith("; milliseconds, medians of 1")
    assert (empty, head.split()) == ("", ["float32", "values", "operation", "bare", "fedmpi", "ratio"])
    assert [line.split()[1].rstrip(",") for line in rows] == [name.split(",")[0] for name in OPERATIONS]
    assert all(line.startswith("         1,234  ") for line in rows)
    assert {len(line) for line in rows[1:]} == {len(head)}


def test_another_number_of_ranks_than_was_started_is_refused(launch) -> None:
    done = launch(2, "-m", "fedmpi", "bench", "collectives", "--ranks", "3", check=False)
    assert done.returncode == 2
    assert done.stderr.count("fedmpi: --ranks: found 3, but 2 were started") == 1
