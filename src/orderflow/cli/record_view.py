"""A record of the log, for people and for programs."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from orderflow.cli.output import block, joined, text
from orderflow.cli.tables import TIME, Forms, Line, ident
from orderflow.cli.times import clock_of_ms, moment_of_ms
from orderflow.messaging.transport import ConsumerRecord

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

ATTRIBUTE = "ce_"
BRIEF_MAX = 1000
NAME_MAX = 160
EVENT_TYPE = re.compile(r"orderflow\.([A-Za-z]+)(?:\.v\d+)?")


class _NoJsonError(ValueError):
    """Bytes that are no JSON document."""


def document(record: ConsumerRecord) -> dict[str, Any]:
    """`attributes` are those of CloudEvents; a value that is no JSON is given as `value_base64`."""
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    headers = [(name, _header_text(value)) for name, value in record.headers]
    return {
        **place,
        "timestamp_ms": record.timestamp,
        "key": None if record.key is None else _header_text(record.key),
        "attributes": {name.removeprefix(ATTRIBUTE): value for name, value in headers if _is_attribute(name)},
        "headers": {name: value for name, value in headers if not _is_attribute(name)},
        **_value(record.value),
    }


def line(record: ConsumerRecord) -> Iterator[RenderableType]:
    """All that fits one line: when, what, whose, where, and the beginning of its value."""
    shown = document(record)
    event_type = (shown["attributes"].get("type") or "(no type)")[:NAME_MAX]
    named = EVENT_TYPE.fullmatch(event_type)
    yield Line(
        Forms(text(moment_of_ms(record.timestamp)), text(clock_of_ms(record.timestamp)), TIME),
        text(named[1] if named else event_type, "bold cyan"),
        ident("(no key)" if shown["key"] is None else shown["key"][:NAME_MAX], "bold"),
        text(f"{record.partition}@{record.offset}", "dim"),
        text(_brief(shown), "dim"),
    )


def _brief(shown: Mapping[str, Any]) -> str:
    """Its value as JSON on one line; so many characters are more than any line has."""
    if "value" not in shown:
        return f"base64 {shown['value_base64'][:BRIEF_MAX]}"
    return "(no value)" if shown["value"] is None else json.dumps(shown["value"], ensure_ascii=False)[:BRIEF_MAX]


def parts(record: ConsumerRecord) -> Iterator[RenderableType]:
    """A line on what it is and where it stands, its attributes and headers, its value."""
    shown = document(record)
    attributes = shown["attributes"]
    yield joined(
        text(f"{moment_of_ms(record.timestamp)}  "),
        text(attributes.get("type") or "(no type)", "bold cyan"),
        text(f"  {shown['key']}", "bold"),
        text(f"  {record.topic}/{record.partition}@{record.offset}", "dim"),
    )
    told = {name: value for name, value in attributes.items() if name not in {"type", "subject", "specversion"}}
    for name, value in [*told.items(), *shown["headers"].items()]:
        yield joined(text(f"  {name}: ", "dim"), text(value, "dim"))
    yield value_text(record.value)
    yield ""


def value_text(value: bytes | None) -> Text:
    """JSON set out in lines and colours; text as text; other bytes in base64."""
    if value is None:
        return text("  (no value)", "dim")
    try:
        return pretty_json(_parse(value))
    except _NoJsonError:
        pass
    try:
        return block(value.decode())
    except UnicodeDecodeError:
        return joined(text("  base64: ", "dim"), text(b64encode(value).decode()))


def pretty_json(value: Any) -> Text:
    """Set out in lines and colours."""
    from rich.highlighter import JSONHighlighter

    shown = block(json.dumps(value, indent=2, ensure_ascii=False))
    JSONHighlighter().highlight(shown)
    return shown


def _value(value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {"value": None}
    try:
        return {"value": _parse(value)}
    except _NoJsonError:
        return {"value_base64": b64encode(value).decode()}


def _parse(value: bytes) -> Any:
    try:
        return json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _NoJsonError from error


def _refuse(constant: str) -> Any:
    raise _NoJsonError(constant)


def _is_attribute(name: str) -> bool:
    return name.startswith(ATTRIBUTE)


def _header_text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")
