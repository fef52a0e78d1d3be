"""`orderflow dlt edit` and `discard`: correct the value of an event, or give it up for good."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import click
from msgspec import to_builtins

from orderflow.cli.acting import act, confirm_options
from orderflow.cli.dlt.selection import (
    PATH,
    Choice,
    Holder,
    choice_options,
    chosen,
    holders,
    of_service,
    read_details,
    read_letters,
    require_confirmed,
)
from orderflow.cli.errors import NotFoundError, RequestRefusedError, counted
from orderflow.cli.http import ServiceClient
from orderflow.cli.output import text
from orderflow.cli.session import Session, session_options
from orderflow.cli.tables import heartbeat
from orderflow.cli.values import event_or_position
from orderflow.core.operations.model import DeadLetter, DeadLetterDetails, FieldChange
from orderflow.registry import service_names

DISCARDED_MAX = 100_000


class FieldEdit(NamedTuple):
    """`items.0.quantity=2`: the path to a field, and what it is to be."""

    path: tuple[str, ...]
    value: Any


def setting(value: Any) -> FieldEdit:
    """`FIELD=VALUE`; the value is JSON, or else text. Raises click.BadParameter."""
    if isinstance(value, FieldEdit):
        return value
    field, equals, said = str(value).partition("=")
    if not equals or not all(field.split(".")):
        raise click.BadParameter(
            f"{value!r} sets nothing. Expected: FIELD=VALUE, where FIELD may be a path such as items.0.quantity, "
            "for example currency=EUR or total=1250"
        )
    try:
        read = json.loads(said)
    except ValueError:
        read = said
    return FieldEdit(tuple(field.split(".")), read)


@click.command()
@click.argument("event", type=event_or_position, metavar="EVENT_ID")
@click.option(
    "--service", type=click.Choice(service_names()), help="Only at this service.  [default: wherever it is dead]"
)
@click.option("--value", "file", type=click.File("rb"), metavar="FILE", help="The new value; - reads standard input.")
@click.option(
    "--set", "settings", type=setting, multiple=True, metavar="FIELD=VALUE", help="Set one field; repeatable."
)
@confirm_options
@session_options
def edit(
    session: Session,
    event: str,
    service: str | None,
    file: BinaryIO | None,
    settings: tuple[FieldEdit, ...],
    yes: bool,
    reason: str,
) -> None:
    """Correct the value of a dead event, so that you can replay it.

    The new value must stay with its order and fit the event's type: items that a shop could order, and a total that
    is their sum. If the service could read the original and has nothing to compare it with, what was ordered cannot
    change. You see each field that would change and are asked before anything is stored; --yes answers for you. The
    original is kept; the edited event gets a new id, so it is not taken for a duplicate. Without --value or --set,
    your $EDITOR opens. VALUE is JSON, or else text; FIELD may be a path.

    \b
    orderflow dlt edit 8ec9495d-610d-5954-a202-3d44caf9480b --set currency=EUR --set items.0.quantity=2
    orderflow dlt edit 8ec9495d-610d-5954-a202-3d44caf9480b --value fixed.json --yes --reason "ticket 4711"
    orderflow dlt edit 17 --service inventory
    """
    if file is not None and settings:
        raise click.UsageError("Give the new value in one way: --value FILE, or --set FIELD=VALUE")
    choice = chosen((event,), None, False, service)
    held, answers = holders(session, choice)
    require_confirmed(session, choice, held, yes=True, reason=reason)
    given = file.read() if file is not None else None
    wanted = {name: _wanted(session, name, event, given, settings) for name in held}
    _agree(session, wanted, yes=yes)
    edited = {name: _stored(session, name, event, each, reason) for name, each in wanted.items()}
    if session.out.as_json:
        changes = {name: {"changes": to_builtins(each.changes)} for name, each in wanted.items()}
        found = [{**of_service(name, letter), **changes[name]} for name, letter in edited.items()]
        session.out.document({"edited": found, "unreachable": answers.away})
    else:
        _show(session, edited)
    answers.require_all()


class _Edit(NamedTuple):
    """What is to be stored at one service: the value, the event's id when it was looked at, and what it changes."""

    content: Mapping[str, str]
    seen: str
    changes: Sequence[FieldChange]


def _wanted(session: Session, name: str, event: str, given: bytes | None, settings: tuple[FieldEdit, ...]) -> _Edit:
    """The service has checked the value; nothing is stored yet. Raises CliError."""
    with session.client(name) as client:
        shown = read_details(client, event)
        content = _content(given if given is not None else _changed(shown, settings))
        preview = client.ask("POST", f"{PATH}/{event}/preview", body=content).body
        changes = client.decoded(list[FieldChange], preview["changes"])
    return _Edit(content, str(shown.letter.event_id), changes)


def _stored(session: Session, name: str, event: str, wanted: _Edit, reason: str) -> DeadLetter:
    """The event as it stands then. Raises CliError, also if somebody has edited it since it was looked at."""
    body = {**wanted.content, "seen": wanted.seen, "reason": reason, "confirmed": True}
    with session.client(name) as client:
        return client.decoded(DeadLetter, act(client, "PUT", f"{PATH}/{event}/value", body))


def _agree(session: Session, wanted: Mapping[str, _Edit], *, yes: bool) -> None:
    """Show what would change, and ask. Raises RequestRefusedError."""
    if not session.out.as_json:
        for name, each in wanted.items():
            session.out.show(text(f"Changes at {name}:", "bold"))
            for change in each.changes:
                before, after = _or_nothing(change.before), _or_nothing(change.after)
                session.out.show(text(f"  {change.field or '(value)'}: {before} -> {after}"))
    if yes:
        return
    try:
        agreed = click.confirm("Store it?", err=True)
    except click.Abort:
        agreed = False
    if not agreed:
        raise RequestRefusedError("Nothing was stored. To confirm, answer y, or add: --yes")


def _or_nothing(value: str | None) -> str:
    return "nothing" if value is None else value


def _changed(shown: DeadLetterDetails, settings: tuple[FieldEdit, ...]) -> bytes:
    value = shown.value.to_bytes()
    if settings:
        return with_settings(value, settings)
    changed = in_editor(value)
    if changed is None:
        raise click.UsageError("Nothing was changed")
    return changed


def _content(value: bytes) -> dict[str, str]:
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def _show(session: Session, edited: Mapping[str, DeadLetter]) -> None:
    for name, letter in edited.items():
        session.out.show(text(f"Edited at {name}; its id is now {letter.event_id}."))
        session.out.show(text(f"See what it would do with: orderflow dlt rehearse {letter.event_id}", "dim"))


def with_settings(value: bytes | None, settings: Sequence[FieldEdit]) -> bytes:
    """The JSON object with these fields set. Raises click.UsageError: it is none, or a path leads nowhere."""
    try:
        document = json.loads(value or b"")
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise click.UsageError("The event's value is not a JSON object, so no field can be set. Use --value FILE")
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
            f"The editor failed: {error.format_message()}. Use --value FILE, or --set FIELD=VALUE"
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


def _set(document: dict[str, Any], each: FieldEdit) -> None:
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


def _inner(at: Any, step: str, each: FieldEdit) -> Any:
    if isinstance(at, Mapping) and step in at:
        return at[step]
    if isinstance(at, list) and step.isdigit() and int(step) < len(at):
        return at[int(step)]
    raise _nowhere(each)


def _nowhere(each: FieldEdit) -> click.UsageError:
    return click.UsageError(f"The event has nothing at {'.'.join(each.path)}. See its value with: orderflow dlt show")


@click.command()
@choice_options
@click.option("--reason", metavar="TEXT", required=True, help="Why; recorded in the operators' log.")
@click.option("--yes", is_flag=True, help="Confirm, where the service requires it.")
@session_options
def discard(session: Session, choice: Choice, reason: str, yes: bool) -> None:
    """Give up events for good: they take no effect, and the events held behind them go on.

    The record stays on the dead-letter topic; the operators' log says who discarded it and why.

    \b
    orderflow dlt discard 8ec9495d-610d-5954-a202-3d44caf9480b --reason "a test event in production"
    orderflow dlt discard 17 --service payment --yes --reason "charged by hand, ticket 4711"
    orderflow dlt discard --group 3f2a9c41d0e7 --reason "noise of a broken producer, ticket 4712"
    """
    if not reason.strip():
        raise click.UsageError("An event is discarded for good, so say why: --reason TEXT")
    held, answers = holders(session, choice)
    require_confirmed(session, choice, held, yes=yes, reason=reason)
    done: list[dict[str, Any]] = []

    def told() -> str:
        return f"{counted(len(done), 'event')} discarded"

    for name, holder in held.items():
        before = len(done)
        with session.client(name) as client, heartbeat(told, hidden=session.out.as_json):
            gone = _discarded(client, choice, holder, {"reason": reason, "confirmed": yes})
            done.extend(of_service(name, letter) for letter in gone)
        if not session.out.as_json:
            session.out.show(text(f"Discarded at {name}: {counted(len(done) - before, 'event')}."))
    if session.out.as_json:
        session.out.document({"discarded": done, "unreachable": answers.away})
    answers.require_all()


def _discarded(
    client: ServiceClient, choice: Choice, holder: Holder, body: Mapping[str, Any]
) -> Iterator[DeadLetter]:
    """Each letter, once it is. Raises CliError; of a group, what was handled or discarded meanwhile is left out."""
    letters = holder.letters if choice.events else read_letters(client, choice.filter(), DISCARDED_MAX)
    for letter in letters:
        try:
            act(client, "POST", f"{PATH}/{letter.position}/discard", body)
        except NotFoundError:
            if choice.events:
                raise
        else:
            yield letter
