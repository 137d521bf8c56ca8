"""Make or check the golden vectors of this folder: those of ``../shared/golden``, without their largest cases.

    python tests/golden/trim.py SOURCE            # writes what is missing here
    python tests/golden/trim.py SOURCE --check    # exit code 1 unless all that is here stands in SOURCE, bit for bit

Whole files are copied as they are; of those that are large, the cases in ``KEPT_CASES`` are kept. ``README.md`` says
what the vectors are and where they come from.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
MOST_BYTES = 4 * 2**20

KEPT_CASES = {
    "prunefl_reconfigure.npz": ("case0", "case1", "case2", "case3", "case6", "case7"),
    "server_selection.npz": ("case0", "case1", "case2", "case3", "case4", "case5"),
}
WHOLE_FILES = (
    "accordion.json",
    "async_rounds.json",
    "async_weights.json",
    "feddst.npz",
    "fedtiny.npz",
    "k_control.json",
    "link_sharing.json",
    "link_traces.json",
    "qsgd.npz",
    "server_optimizers.json",
    "stc.npz",
)


def trimmed(source: Path, kept: tuple[str, ...]) -> dict[str, Any]:
    """The arrays of the ``kept`` cases, and their part of ``meta``."""
    with np.load(source) as vectors:
        meta = [case for case in json.loads(str(vectors["meta"])) if case["case"] in kept]
        arrays = {name: vectors[name] for name in vectors.files if name.split("/")[0] in kept}
    return {**arrays, "meta": np.array(json.dumps(meta))}


def write(source: Path) -> None:
    """Write every file that is not here yet."""
    for name in WHOLE_FILES:
        if not (HERE / name).exists():
            (HERE / name).write_bytes((source / name).read_bytes())
    for name, kept in KEPT_CASES.items():
        if not (HERE / name).exists():
            np.savez_compressed(HERE / name, **trimmed(source / name, kept))


def problems(source: Path) -> list[str]:
    """What differs between this folder and ``source``, one line each."""
    found = []
    for name in WHOLE_FILES:
        if not (HERE / name).is_file():
            found.append(f"{name}: is missing")
        elif (HERE / name).read_bytes() != (source / name).read_bytes():
            found.append(f"{name}: differs from {source / name}")
    for name in KEPT_CASES:
        if not (HERE / name).is_file():
            found.append(f"{name}: is missing")
            continue
        with np.load(HERE / name) as mine, np.load(source / name) as theirs:
            found += [
                f"{name}: {key} is not in {source / name}" for key in set(mine.files) - set(theirs.files)
            ]
            whole = {case["case"]: case for case in json.loads(str(theirs["meta"]))}
            for case in json.loads(str(mine["meta"])):
                if case != whole.get(case["case"]):
                    found.append(f"{name}: meta of {case['case']} differs")
            for key in sorted(set(mine.files) & set(theirs.files) - {"meta"}):
                left, right = mine[key], theirs[key]
                if (
                    left.dtype != right.dtype
                    or left.shape != right.shape
                    or left.tobytes() != right.tobytes()
                ):
                    found.append(f"{name}: {key} differs")
    size = sum(path.stat().st_size for path in HERE.glob("*.*") if path.suffix in (".npz", ".json"))
    if size > MOST_BYTES:
        found.append(f"the vectors take {size:,} bytes, allowed are {MOST_BYTES:,}")
    return found


def main(arguments: list[str]) -> int:
    """Exit code 0 when all is well."""
    source = Path(arguments[0])
    if "--check" not in arguments:
        write(source)
    found = problems(source)
    print("\n".join(found) or f"the vectors of {HERE} are those of {source}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
