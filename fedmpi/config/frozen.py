"""An immutable mapping, for the few keys whose value is itself a table of free names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class FrozenTable(Mapping[str, Any]):
    """A read-only table that can be hashed, copied and pickled (``types.MappingProxyType`` cannot)."""

    __slots__ = ("_content",)

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = dict(content)

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __hash__(self) -> int:
        return hash(frozenset(self._content.items()))

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{key} = {value!r}" for key, value in self._content.items()) + "}"
