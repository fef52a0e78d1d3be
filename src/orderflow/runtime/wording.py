"""What callers are told of a text that does not fit: words in the place of a regular expression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec


def in_words(detail: str, wanted: Any) -> str:
    """`detail` is what msgspec says of a value that is no `wanted`. Where a pattern there has a description,
    that is said.
    """
    regex = detail.partition(" matching regex ")[2]
    if not regex:
        return detail
    described = dict(_described(msgspec.inspect.type_info(wanted)))
    return f"Expected {described[regex]}" if regex in described else detail


def _described(info: msgspec.inspect.Type) -> Iterator[tuple[str, str]]:
    """Every pattern, as msgspec writes it, with its description."""
    if isinstance(info, msgspec.inspect.Metadata):
        description = (info.extra_json_schema or {}).get("description")
        if isinstance(info.type, msgspec.inspect.StrType) and info.type.pattern and description:
            yield repr(info.type.pattern), description
        yield from _described(info.type)
    elif isinstance(info, msgspec.inspect.StructType):
        for field in info.fields:
            yield from _described(field.type)
    elif isinstance(info, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
        yield from _described(info.item_type)
