"""What callers are told of a value that does not fit: words for a regular expression, and what would fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

Info = msgspec.inspect.Type


def in_words(detail: str, wanted: Any) -> str:
    """`detail` is what msgspec says of a value that is no `wanted`. A pattern that has a description is told by that;
    of an enumeration the values are told, if `wanted` has one only.
    """
    regex = detail.partition(" matching regex ")[2]
    if regex:
        described = dict(_patterns(wanted))
        return f"Expected {described[regex]}" if regex in described else detail
    if detail.startswith("Invalid enum value"):
        enumerations = [*_enumerations(wanted)]
        return f"{detail}; wanted: {enumerations[0]}" if len(enumerations) == 1 else detail
    return detail


def _patterns(wanted: Any) -> Iterator[tuple[str, str]]:
    """Every pattern that has a description, as msgspec writes it, and the description."""
    for part in _parts(msgspec.inspect.type_info(wanted)):
        if isinstance(part, msgspec.inspect.Metadata) and isinstance(part.type, msgspec.inspect.StrType):
            description = (part.extra_json_schema or {}).get("description")
            if part.type.pattern and description:
                yield repr(part.type.pattern), description


def _enumerations(wanted: Any) -> Iterator[str]:
    for part in _parts(msgspec.inspect.type_info(wanted)):
        if isinstance(part, msgspec.inspect.EnumType):
            yield ", ".join(str(each.value) for each in part.cls)
        elif isinstance(part, msgspec.inspect.LiteralType):
            yield ", ".join(map(str, part.values))


def _parts(info: Info) -> Iterator[Info]:
    yield info
    inner: tuple[Info, ...] = ()
    if isinstance(info, msgspec.inspect.Metadata):
        inner = (info.type,)
    elif isinstance(info, msgspec.inspect.StructType):
        inner = tuple(field.type for field in info.fields)
    elif isinstance(info, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
        inner = (info.item_type,)
    elif isinstance(info, msgspec.inspect.UnionType):
        inner = info.types
    for each in inner:
        yield from _parts(each)
