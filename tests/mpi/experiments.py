"""Small experiments for the MPI tests, and how their traces are compared."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from fedmpi import trace
from fedmpi.trace.schema import TABLES

HOST_COLUMNS = {"host_s", "rank", "overrun_s", "released_s"}
"""What may differ between placements: host time, and where a client was trained."""

BASE = """
[experiment]
name = "small"
seed = 5
rounds = 6
evaluate_every = 2
[clients]
count = 8
per_round = 5
[data]
dataset = "digits"
partition = "dirichlet"
alpha = 1.0
[model]
name = "mlp"
hidden = [16]
[training]
local_steps = 3
batch_size = 16
learning_rate = 0.2
momentum = 0.5
[emulation.compute]
model = "linear"
profile = {"raspberry-pi-4" = 0.5, "raspberry-pi-3" = 0.5}
[emulation.network]
uplink_mbit_per_s = {distribution = "lognormal", median = 2.0, sigma = 0.5}
downlink_mbit_per_s = 8.0
latency_s = 0.02
jitter_s = 0.01
server_ingress_mbit_per_s = 6.0
"""

NORMALIZED = [
    "emulation.compute.model=normalized",
    "emulation.compute.profile=reference",
    "emulation.network.uplink_mbit_per_s=inf",
    "emulation.network.downlink_mbit_per_s=inf",
    "emulation.network.latency_s=0",
    "emulation.network.jitter_s=0",
    "emulation.network.server_ingress_mbit_per_s=inf",
]
"""The cost model of FAB-top-k in place of BASE's devices and links."""

PRUNEFL = ["pruning.method=prunefl", "pruning.reconfigure_every=2", "training.momentum=0.0"]
"""The mask changes after every other round."""

FEDTINY = ["pruning.method=fedtiny", "pruning.target_density=0.4", "pruning.reconfigure_every=2"]
"""A mask from the start, and others after rounds 2, 4 and 6."""

FEDDST = [
    "pruning.method=feddst",
    "pruning.target_density=0.4",
    "pruning.reconfigure_every=2",
    "pruning.options={alpha = 0.5, last_round = 6}",
]
"""Clients take masks of their own in rounds 1, 3 and 5."""

INITIAL = [*PRUNEFL, "pruning.initial.where=client", "pruning.initial.client=3"]
"""Besides, client 3 prunes before the first round."""

ONLINE = [
    "pruning.method=online",
    "pruning.reconfigure_every=2",
    "emulation.compute.model=unit",
    "emulation.compute.unit_s=0.001",
    "emulation.network.latency_s=0.0",
]
"""Rounds are so short that every parameter tells: the size falls after the second."""

ONLINE_FAB = [*ONLINE[:2], "sparsification.method=fab", "sparsification.k=60"]

DEPARTURES = [
    "federation.deadline_s=0.095",
    "federation.over_selection=0.4",
    "federation.min_updates=5",
    "emulation.availability.model=intervals",
    f"emulation.availability.path={Path(__file__).with_name('intervals.csv')}",
    "emulation.availability.period_s=0.7",
    "emulation.availability.dropout_probability=0.15",
    "emulation.network.uplink_mbit_per_s=inf",
    f"emulation.network.uplink_trace={Path(__file__).with_name('varying.up')}",
    "emulation.network.trace_start=random",
]
"""Participants that are late, that vanish, and that leave; rounds with too few updates; links that vary."""

METHODS = {
    "dense": "",
    "fab_fixed": '[sparsification]\nmethod = "fab"\nk_fraction = 0.05\n',
    "fab_adaptive": '[sparsification]\nmethod = "fab"\n[k_control]\nmethod = "ogd_sign"\n',
}

VARIANTS: dict[str, list[str]] = {
    "dense": [],
    "fedavg": ["sparsification.method=fedavg", "sparsification.k_fraction=0.17"],  # exchanges every 3 rounds
    "fab": ["sparsification.method=fab", "sparsification.k=60"],
    "fub_flat": ["sparsification.method=fub_flat", "sparsification.k=60"],
    "fub_tree": ["sparsification.method=fub_tree", "sparsification.k=60"],
    "unidirectional": ["sparsification.method=unidirectional", "sparsification.k=60"],
    "periodic": ["sparsification.method=periodic", "sparsification.k=350"],
    "bitmap": ["sparsification.method=fab", "sparsification.k=60", "sparsification.wire=bitmap"],
    "zeros": ["sparsification.method=fab", "sparsification.k=1100", "sparsification.wire=dense"],
    "float16": ["sparsification.method=fub_tree", "sparsification.k=60", "sparsification.value_type=float16"],
    "periodic_float16": [
        "sparsification.method=periodic",
        "sparsification.k=350",
        "sparsification.value_type=float16",
    ],
    "buffers": [
        "model.name=buffered_model:make",
        "sparsification.method=fab",
        "sparsification.k_fraction=0.1",
        "sparsification.value_type=float16",
        "training.local_steps=1",
    ],
    "buffers_fedavg": [
        "model.name=buffered_model:make",
        "sparsification.method=fedavg",
        "sparsification.k_fraction=0.25",
    ],
    "convolutions": ["model.name=convolutional_model:make", "training.batched=on"],
    "stateful": [
        "model.name=stateful_model:make",
        "sparsification.method=fab",
        "k_control.method=ogd_sign",
    ],
    "ogd_sign": ["sparsification.method=unidirectional", "k_control.method=ogd_sign"],
    "ogd_value": ["sparsification.method=fub_tree", "k_control.method=ogd_value"],
    "ogd_float16": [
        "sparsification.method=fab",
        "sparsification.value_type=float16",
        "k_control.method=ogd_sign",
    ],
    "exp3": [
        "sparsification.method=fab",
        "k_control.method=exp3",
        "k_control.arms=8",
        "k_control.horizon_rounds=50",
    ],
    "exp3_all": ["sparsification.method=fub_flat", "k_control.method=exp3", "k_control.horizon_rounds=50"],
    "continuous_bandit": [
        "sparsification.method=fab",
        "k_control.method=continuous_bandit",
        "k_control.horizon_rounds=50",
    ],
    "everybody": ["sparsification.method=fab", "sparsification.k=60", "clients.per_round=0"],
    "everybody_periodic": [
        "sparsification.method=periodic",
        "sparsification.k=350",
        "sparsification.value_type=float16",
        "clients.per_round=0",
    ],
    "normalized": [*NORMALIZED, "sparsification.method=fab", "k_control.method=ogd_sign"],
    "departures": DEPARTURES,
    "departures_fedavg": [
        *DEPARTURES,
        "sparsification.method=fedavg",
        "sparsification.k_fraction=0.17",
    ],
    "departures_ogd": [*DEPARTURES, "sparsification.method=fab", "k_control.method=ogd_sign"],
    "departures_prunefl": [*DEPARTURES, *PRUNEFL],
    "departures_prunefl_fab": [
        *DEPARTURES,
        *PRUNEFL,
        "model.name=buffered_model:make",
        "sparsification.method=fab",
        "sparsification.k=60",
    ],
    "departures_normalized": [
        *NORMALIZED,
        "clients.per_round=0",
        "emulation.availability.model=probability",
        "emulation.availability.probability=0.7",
        "emulation.availability.dropout_probability=0.3",
        "sparsification.method=fab",
        "k_control.method=ogd_sign",
    ],
    "prunefl": PRUNEFL,
    "prunefl_buffers": [*PRUNEFL, "model.name=buffered_model:make"],
    "prunefl_fab": [*PRUNEFL, "sparsification.method=fab", "sparsification.k=60"],
    "prunefl_ogd_float16": [
        *PRUNEFL,
        "sparsification.method=fub_tree",
        "sparsification.value_type=float16",
        "k_control.method=ogd_sign",
    ],
    "prunefl_periodic": [*PRUNEFL, "sparsification.method=periodic", "sparsification.k=350"],
    "prunefl_shared_links": [*PRUNEFL, "emulation.compute.model=unit"],
    "prunefl_received": [
        *PRUNEFL,
        "sparsification.method=fab",
        "sparsification.k=60",
        "pruning.importance=received",
        "pruning.max_decrease_fraction=0.6",
    ],
    "departures_prunefl_received": [
        *DEPARTURES,
        *PRUNEFL,
        "model.name=buffered_model:make",
        "sparsification.method=fub_tree",
        "sparsification.value_type=float16",
        "k_control.method=ogd_sign",
        "pruning.importance=received",
        "pruning.importance_entries=25",
        "pruning.max_decrease_fraction=0.6",
    ],
    "joint": [
        *PRUNEFL,
        "sparsification.method=fab",
        "k_control.method=norm_rate",
        "pruning.importance=received",
        "pruning.joint=true",
    ],
    "departures_joint": [
        *DEPARTURES,
        *PRUNEFL,
        "model.name=buffered_model:make",
        "sparsification.method=unidirectional",
        "sparsification.value_type=float16",
        "k_control.method=norm_rate",
        "pruning.importance=sketch",
        "pruning.reconfigure_every=1",
        "pruning.interval=adaptive",
        "pruning.joint=true",
    ],
    "prunefl_sketch": [
        *PRUNEFL,
        "sparsification.method=fab",
        "sparsification.k=60",
        "pruning.importance=sketch",
    ],
    "departures_prunefl_sketch": [
        *DEPARTURES,
        *PRUNEFL,
        "pruning.importance=sketch",
        "pruning.importance_entries=80",
    ],
    "departures_prunefl_adaptive_interval": [
        *DEPARTURES,
        *PRUNEFL,
        "pruning.reconfigure_every=1",
        "pruning.interval=adaptive",
        "sparsification.method=fab",
        "sparsification.k=60",
        "pruning.importance=received",
    ],
    "fedtiny_topk": [
        *FEDTINY,
        "sparsification.method=fab",
        "sparsification.k=60",
        "pruning.options.gradients=topk",
    ],
    "departures_fedtiny_topk": [*DEPARTURES, *FEDTINY, "pruning.options.gradients=topk"],
    "initial_client": INITIAL,
    "initial_fab": [*INITIAL, "sparsification.method=fab", "sparsification.k=900"],
    "initial_server_buffers": [
        *PRUNEFL,
        "model.name=buffered_model:make",
        "pruning.initial.where=server",
        "pruning.initial.charged=false",
    ],
    "online": ONLINE,
    "online_buffers_fab": [
        *ONLINE,
        "model.name=buffered_model:make",
        "sparsification.method=fab",
        "sparsification.k=60",
    ],
    "online_ogd": [*ONLINE, "sparsification.method=fab", "k_control.method=ogd_sign"],
    "snip": ["pruning.method=snip", "pruning.target_density=0.2"],
    "snip_fab": [
        "pruning.method=snip",
        "pruning.target_density=0.04",
        "sparsification.method=fab",
        "sparsification.k=150",
    ],
    "prunefl_fedavg": [
        *PRUNEFL,
        "sparsification.method=fedavg",
        "sparsification.k_fraction=0.26",
    ],  # exchanges every other round
    "normalized_prunefl": [*NORMALIZED, *PRUNEFL],
    "normalized_online_fab": [*NORMALIZED, *ONLINE_FAB],
    "fab_fedadam": [
        "sparsification.method=fab",
        "k_control.method=ogd_sign",
        "federation.aggregator=fedadam",
        "federation.options={learning_rate = 0.03}",
    ],
    "tree_fedyogi_dense": [
        *PRUNEFL,
        "model.name=buffered_model:make",
        "sparsification.method=fub_tree",
        "sparsification.k=60",
        "sparsification.value_type=float16",
        "federation.aggregator=fedyogi",
        "federation.options={learning_rate = 0.03, dense = true}",
    ],
    "norm_rate": ["sparsification.method=fab", "k_control.method=norm_rate"],
    "norm_rate_buffers": [
        "model.name=buffered_model:make",
        "sparsification.method=unidirectional",
        "sparsification.value_type=float16",
        "k_control.method=norm_rate",
        "k_control.options={power = 1, smoothing = 0}",
    ],
    "departures_norm_rate_prunefl": [
        *DEPARTURES,
        *PRUNEFL,
        "sparsification.method=fab",
        "k_control.method=norm_rate",
    ],
    "normalized_norm_rate": [*NORMALIZED, "sparsification.method=fub_flat", "k_control.method=norm_rate"],
    "departures_stc_fedtiny": [
        *DEPARTURES,
        *FEDTINY,
        "model.name=buffered_model:make",
        "sparsification.method=stc",
        "sparsification.k=60",
        "sparsification.options.down_fraction=0.1",
    ],
    "qsgd_elias": ["sparsification.method=qsgd", "sparsification.options.elias=true"],
    "departures_qsgd": [*DEPARTURES, "model.name=buffered_model:make", "sparsification.method=qsgd"],
    "departures_ef21_fedtiny": [
        *DEPARTURES,
        *FEDTINY,
        "sparsification.method=ef21",
        "sparsification.k=60",
    ],
    "accordion_layers": [
        *(*FEDTINY, "sparsification.method=fab", "k_control.method=accordion"),
        "k_control.options={low = 0.05, high = 0.6, interval = 2}",
    ],
    "accordion_fedtiny": [
        *FEDTINY,
        "sparsification.method=layer_top_k",
        "k_control.method=accordion",
        "k_control.options.interval=2",
    ],
    "random_k_proximal": [
        "sparsification.method=random_k",
        "sparsification.k=60",
        "training.proximal_mu=0.5",
    ],
    "feddst": FEDDST,
    "feddst_epochs_buffers": [
        *FEDDST[:-1],
        "pruning.options={alpha = 0.5, last_round = 6, final_density = 0.2, min_votes = 60}",
        "model.name=buffered_model:make",
        "training.local_steps=1",
        "training.local_epochs=2",
        "training.proximal_mu=0.1",
    ],
    "departures_feddst": [
        *DEPARTURES,
        *FEDDST,
        "pruning.reconfigure_every=1",
    ],  # also in rounds without enough updates
    "normalized_feddst": [*NORMALIZED, *FEDDST],
    "layer_top_k": [*PRUNEFL, "sparsification.method=layer_top_k", "sparsification.k=60"],
    "fedadam": ["federation.aggregator=fedadam", "federation.options={learning_rate = 0.03}"],
    "fedyogi_prunefl_buffers": [
        *PRUNEFL,
        "model.name=buffered_model:make",
        "federation.aggregator=fedyogi",
        "federation.options.bias_correction=true",
    ],
    "fedavgm_fedavg": [
        "federation.aggregator=fedavgm",
        "sparsification.method=fedavg",
        "sparsification.k_fraction=0.26",
    ],
    "trimmed_mean": ["federation.aggregator=trimmed_mean", "federation.options.trim=0.25"],
    "trimmed_mean_prunefl_buffers": [
        *PRUNEFL,
        "model.name=buffered_model:make",
        "federation.aggregator=trimmed_mean",
        "federation.options.trim=0.4",
    ],
    "normalized_fedavg": [*NORMALIZED, "sparsification.method=fedavg", "sparsification.k_fraction=0.17"],
}
"""Every method and controller, and what changes their messages or times, as overrides of BASE."""


def write_config(folder: Path, method: str) -> Path:
    """The configuration of one of METHODS as a file."""
    path = folder / f"{method}.toml"
    path.write_text(BASE + METHODS[method], encoding="utf-8")
    return path


def assert_same_trace(one: Path, other: Path, tables: Iterable[str] = TABLES) -> None:
    """Every learning and emulation column is equal bit by bit."""
    a, b = trace.read(one), trace.read(other)
    for name in tables:
        left, right = getattr(a, name), getattr(b, name)
        if name == "events":
            left, right = (table[table["kind"] != "overrun"] for table in (left, right))
        columns = [column for column in left.columns if column not in HOST_COLUMNS]
        assert len(left) == len(right), name
        for column in columns:
            assert_equal_bits(left[column], right[column], f"{name}.{column}")


def assert_equal_bits(left: pd.Series, right: pd.Series, what: str) -> None:
    if left.dtype.kind == "f":
        differ = left.to_numpy().view(np.int64) != right.to_numpy().view(np.int64)
        both_nan = left.isna().to_numpy() & right.isna().to_numpy()
        wrong = np.flatnonzero(differ & ~both_nan)
    else:
        wrong = np.flatnonzero(left.astype(str).to_numpy() != right.astype(str).to_numpy())
    assert not len(wrong), (
        f"{what} differs first in row {wrong[0]}: {left.iloc[wrong[0]]} and {right.iloc[wrong[0]]}"
    )
