"""A new value for an event: from a file, by single fields, or from the person's editor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import click


class Setting(NamedTuple):
    """`items.0.quantity=2`: the path to a field, and what it is to be."""

    path: tuple[str, ...]
    value: Any


def setting(value: Any) -> Setting:
    """`FIELD=VALUE`; the value is JSON, or else text. Raises click.BadParameter."""
    if isinstance(value, Setting):
        return value
    field, equals, said = str(value).partition("=")
    if not equals or not all(field.split(".")):
        raise click.BadParameter(
            f"{value!r} sets nothing. Wanted: FIELD=VALUE, where FIELD may be a path such as items.0.quantity, "
            "for example currency=EUR or total=1250"
        )
    try:
        read = json.loads(said)
    except ValueError:
        read = said
    return Setting(tuple(field.split(".")), read)


def with_settings(value: bytes | None, settings: Sequence[Setting]) -> bytes:
    """The JSON object with these fields set. Raises click.UsageError: it is none, or a path leads nowhere."""
    try:
        document = json.loads(value or b"")
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise click.UsageError("The event's value is no JSON object, so no field can be set. Wanted: --value FILE")
    for each in settings:
        _set(document, each)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def in_editor(value: bytes | None) -> bytes | None:
    """What the person makes of it in $EDITOR; None: nothing was changed. Raises click.UsageError."""
    before = _laid_out(value)
    try:
        after = click.edit(before, extension=".json")
    except click.ClickException as error:
        raise click.UsageError(
            f"The editor could not be used: {error.format_message()}. Wanted: --value FILE, or --set FIELD=VALUE"
        ) from error
    if after is None or after == before:
        return None
    return _compact(after)


def _laid_out(value: bytes | None) -> str:
    """JSON in lines; other text as it stands."""
    words = (value or b"").decode("utf-8", "backslashreplace")
    try:
        return json.dumps(json.loads(words), indent=2, ensure_ascii=False) + "\n"
    except ValueError:
        return words


def _compact(words: str) -> bytes:
    try:
        return json.dumps(json.loads(words), ensure_ascii=False, separators=(",", ":")).encode()
    except ValueError:
        return words.encode()


def _set(document: dict[str, Any], each: Setting) -> None:
    at: Any = document
    for step in each.path[:-1]:
        at = _inner(at, step, each)
    last = each.path[-1]
    if isinstance(at, dict):
        at[last] = each.value
    elif isinstance(at, list) and last.isdigit() and int(last) < len(at):
        at[int(last)] = each.value
    else:
        raise _nowhere(each)


def _inner(at: Any, step: str, each: Setting) -> Any:
    if isinstance(at, Mapping) and step in at:
        return at[step]
    if isinstance(at, list) and step.isdigit() and int(step) < len(at):
        return at[int(step)]
    raise _nowhere(each)


def _nowhere(each: Setting) -> click.UsageError:
    return click.UsageError(f"The event has nothing at {'.'.join(each.path)}. See its value with: orderflow dlt show")
