"""The study of FAB-top-k on real FEMNIST, with its result tables: python benchmarks/fab_study.py --data ../shared/data

Runs the sweep ``fab-study-small`` and answers: what accuracy has each method at the same emulated time, how long does
each controller of k need to a target accuracy beside the best fixed k, and what does the worst-off client contribute?
The folder given by --data holds femnist_leaf.tar.xz, or train/ and test/ unpacked (all of them then count). Of the
archive's test files every third is taken: about 1,360 samples, the same for all runs. An interrupted study goes on
where it was if --output is given again. About half an hour on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEST_FILES = slice(None, None, 3)


def unpack(archive: Path, folder: Path) -> Path:
    """LEAF's ``train`` and ``test`` in a new folder, with a part of the test files only."""
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    data = next(path.parent for path in folder.rglob("train") if path.is_dir())
    tests = sorted((data / "test").glob("*.json"))
    for path in set(tests) - set(tests[TEST_FILES]):
        path.unlink()
    return data


def main() -> int:
    """Exit code 0 when all runs are complete, else that of the sweep; tables are made of what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with femnist_leaf.tar.xz, or train/ and test/"
    )
    parser.add_argument("--output", type=Path, help="folder of the study (default: a temporary one)")
    parser.add_argument("--sweep", default="fab-study-small", help="another sweep of the same shape")
    parser.add_argument("--jobs", type=int, help="runs at the same time (default: one for each core)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override for all runs, e.g. fewer rounds",
    )
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="write the tables there too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        archive = arguments.data / "femnist_leaf.tar.xz"
        data = unpack(archive, Path(temporary) / "femnist") if archive.is_file() else arguments.data
        study = arguments.output or Path(temporary) / "study"
        jobs = ["--jobs", str(arguments.jobs)] if arguments.jobs else []
        began = time.perf_counter()
        sweep = [
            "sweep",
            arguments.sweep,
            f"data.path={data.resolve()}",
            *arguments.set,
            "--output",
            str(study),
        ]
        code = subprocess.run([sys.executable, "-m", "fedmpi", *sweep, *jobs], check=False).returncode
        print(f"\nstudy: {(time.perf_counter() - began) / 60:.1f} minutes of host time\n", flush=True)
        if code == 2:
            return code
        table = subprocess.run(
            [sys.executable, str(ROOT / "analysis" / "fab_table.py"), str(study)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        print(table, end="")
        if arguments.table:
            arguments.table.write_text(table, encoding="utf-8")
        if arguments.output:
            figures = [sys.executable, str(ROOT / "analysis" / "figures.py"), "fab", str(study)]
            subprocess.run(figures, check=True, stderr=subprocess.DEVNULL)
    return code


if __name__ == "__main__":
    sys.exit(main())
