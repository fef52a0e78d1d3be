"""JSON objects that have a name twice: readers disagree on what they mean (RFC 8259, section 4)."""

from __future__ import annotations

import json


class DoubleNameError(ValueError):
    """One object has two members of one name."""


def require_unique_names(document: bytes) -> None:
    """Raises DoubleNameError. The document is known to be JSON."""
    json.loads(document, object_pairs_hook=_unique)


def _unique(members: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in members:
        if name in seen:
            raise DoubleNameError(f"the name {name!r} stands twice in one object")
        seen.add(name)
