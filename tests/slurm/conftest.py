"""The cluster that the tests of this folder share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from one_node_cluster import PROGRAMS, Cluster, one_node_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A one-node cluster; skips where SLURM or munge is not installed or where it may not be started."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(
            f"SLURM tests need the Debian packages slurm-wlm and munge; not found: {', '.join(missing)}"
        )
    if os.geteuid() != 0:
        pytest.skip("SLURM tests start their own cluster, for which they need root")
    with one_node_cluster() as started:
        yield started
