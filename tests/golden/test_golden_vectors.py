"""The vectors of this folder are a subset of the whole collection, where that is at hand, and stay small."""

from __future__ import annotations

from pathlib import Path

import trim

WHOLE = Path(__file__).resolve().parents[2] / ".." / "shared" / "golden"


def test_the_vectors_are_a_subset_of_the_whole_collection() -> None:
    """Without the collection the vectors are compared with themselves: their presence, meta and size."""
    source = WHOLE if WHOLE.is_dir() else trim.HERE
    assert trim.problems(source) == []


def test_a_changed_vector_is_found(tmp_path: Path) -> None:
    for path in trim.HERE.glob("*.npz"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for path in trim.HERE.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "accordion.json").write_bytes(b"{}")
    assert trim.problems(tmp_path) == [f"accordion.json: differs from {tmp_path / 'accordion.json'}"]
