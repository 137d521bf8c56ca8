"""The server's work in a round: messages read, selection, message written; one core, interleaved, medians.

Fab's selection also beside a plain rendering of its paper. ``memory`` is the most that is allocated on the way,
over what the messages hold.

python benchmarks/fab_selection.py [--clients 100] [--k 4440] [--dimension 444062] [--repetitions 9]
"""

from __future__ import annotations

import argparse
import tracemalloc
from statistics import median
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.config import parts
from fedmpi.numerics.topk import top_k
from fedmpi.sparsification import SparseMethod, Uploads
from fedmpi.sparsification.wire import decode, encode

METHODS = {
    name: parts.build("sparsification.method", name, {}, SparseMethod).select
    for name in ("fab", "fub_flat", "fub_tree", "unidirectional", "periodic")
}


def one_round(clients: int, k: int, dimension: int) -> Uploads:
    """Clients whose gradients agree in part."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal(dimension, dtype=np.float32) * np.float32(0.5)
    indices: list[NDArray[np.int32]] = []
    values: list[NDArray[np.float32]] = []
    for _ in range(clients):
        gradient = common + rng.standard_normal(dimension, dtype=np.float32)
        indices.append(top_k(gradient, k))
        values.append(gradient[indices[-1]])
    sizes = rng.integers(20, 400, clients).astype(np.float64)
    return Uploads(tuple(indices), tuple(values), sizes / sizes.sum(), dimension)


def plain_fab(uploads: Uploads, k: int) -> list[int]:
    """The paper's description: widen a set by kappa, one rank at a time."""
    ranked = []
    for indices, values, _ in uploads.parts():
        entries = zip(indices.tolist(), values.tolist(), strict=True)
        ranked.append(sorted(entries, key=lambda entry: -abs(entry[1])))
    chosen: set[int] = set()
    for rank in zip(*ranked, strict=False):
        wider = chosen | {index for index, _ in rank}
        if len(wider) > k:
            peaks: dict[int, float] = {}
            for index, value in rank:
                if index not in chosen:
                    peaks[index] = max(abs(value), peaks.get(index, 0.0))
            filling = sorted(peaks, key=lambda index: -peaks[index])
            chosen.update(filling[: k - len(chosen)])
            break
        chosen = wider
    sums = dict.fromkeys(sorted(chosen), 0.0)
    for indices, values, weight in uploads.parts():
        for index, value in zip(indices.tolist(), values.tolist(), strict=True):
            if index in sums:
                sums[index] += weight * value
    return list(sums)


def sent_messages(uploads: Uploads, form: str) -> list[NDArray[np.uint8]]:
    """Every client's message."""
    return [encode(form, indices, values, uploads.dimension).data for indices, values, _ in uploads.parts()]


def serve(
    method: str, messages: list[NDArray[np.uint8]], like: Uploads, k: int
) -> tuple[float, float, float]:
    """Seconds of reading, of selecting, and of writing the answer."""
    form, positions = "auto", None
    if method == "periodic":
        form, positions = "values", like.indices[0]
    begin = perf_counter()
    entries = [decode(data, like.dimension, positions=positions) for data in messages]
    indices, values, _ = zip(*entries, strict=True)
    uploads = Uploads(indices, values, like.weights, like.dimension)
    read = perf_counter()
    selection = METHODS[method](uploads, k)
    selected = perf_counter()
    encode(form, selection.indices, selection.values.astype(np.float32), like.dimension)
    return read - begin, selected - read, perf_counter() - selected


def main() -> None:
    """Measure, check that both agree, and print one line for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--k", type=int, default=4440)
    parser.add_argument("--dimension", type=int, default=444_062)
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    k = arguments.k
    own = one_round(arguments.clients, k, arguments.dimension)
    # What periodic sends: the same coordinates from everybody.
    same = Uploads(own.indices[:1] * arguments.clients, own.values, own.weights, own.dimension)
    given = {method: same if method == "periodic" else own for method in METHODS}
    messages = {
        method: sent_messages(uploads, "values" if method == "periodic" else "auto")
        for method, uploads in given.items()
    }
    seconds: dict[str, list[tuple[float, float, float]]] = {method: [] for method in METHODS}
    plain: list[float] = []
    for repetition in range(arguments.repetitions + 1):
        for method, uploads in given.items():
            seconds[method].append(serve(method, messages[method], uploads, k))
        if repetition % 3 == 0:
            begin = perf_counter()
            expected = plain_fab(own, k)
            plain.append(perf_counter() - begin)
            if METHODS["fab"](own, k).indices.tolist() != expected:
                raise SystemExit("fab and the plain way disagree")
    print(f"{arguments.clients} clients, k = {k}, D = {arguments.dimension}")
    for method, rounds in seconds.items():
        read, select, write = (median(part[1:] or part) * 1e3 for part in zip(*rounds, strict=True))
        held = sum(message.nbytes for message in messages[method])
        line = f"{method}: {read + select + write:.1f} ms (read {read:.1f}, select {select:.1f}, write {write:.1f})"
        print(
            f"{line}, messages {held / 1e6:.1f} MB, memory {memory(method, messages, given, k) / held:.1f}x"
        )
    ratio = median(plain) * 1e3 / median([select for _, select, _ in seconds["fab"]]) / 1e3
    print(f"plain fab: {median(plain) * 1e3:.0f} ms ({ratio:.0f}x)")


def memory(
    method: str, messages: dict[str, list[NDArray[np.uint8]]], given: dict[str, Uploads], k: int
) -> int:
    """The most bytes that ``serve`` allocates."""
    tracemalloc.start()
    serve(method, messages[method], given[method], k)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


if __name__ == "__main__":
    main()
