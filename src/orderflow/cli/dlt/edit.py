"""`orderflow dlt edit`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import click

from orderflow.cli.dlt.acting import confirm_options
from orderflow.cli.dlt.changing import Setting, setting
from orderflow.cli.session import Session, session_options
from orderflow.cli.values import event_or_position
from orderflow.registry import service_names


@click.command()
@click.argument("event", type=event_or_position, metavar="EVENT_ID")
@click.option(
    "--service", type=click.Choice(service_names()), help="Only at this one.  [default: wherever it is dead]"
)
@click.option("--value", "file", type=click.File("rb"), metavar="FILE", help="The new value; - reads standard input.")
@click.option(
    "--set", "settings", type=setting, multiple=True, metavar="FIELD=VALUE", help="Set one field; may be given again."
)
@confirm_options
@session_options
def edit(
    session: Session,
    event: str,
    service: str | None,
    file: BinaryIO | None,
    settings: tuple[Setting, ...],
    yes: bool,
    reason: str,
) -> None:
    """Correct the value of a dead event; then replay it.

    The new value must keep its order and fit the event's type: what a shop could order, and a total that is the sum
    of the items. Where the service could read it and has nothing to compare it with, what was ordered stays as it is.
    You see what would change, field by field, and are asked before anything is stored; --yes is the
    answer. What came in is kept; the edited event gets an id of its own, so that it is told apart from a duplicate.
    Without --value and --set your $EDITOR opens. A VALUE is JSON, or else text; a FIELD may be a path.

    \b
    orderflow dlt edit 8ec9495d-610d-5954-a202-3d44caf9480b --set currency=EUR --set items.0.quantity=2
    orderflow dlt edit 8ec9495d-610d-5954-a202-3d44caf9480b --value mended.json --yes --reason "ticket 4711"
    orderflow dlt edit 17 --service inventory
    """
    from orderflow.cli.dlt.acting import require_confirmed
    from orderflow.cli.dlt.choosing import chosen, holders

    if file is not None and settings:
        raise click.UsageError("Say the new value in one way: --value FILE, or --set FIELD=VALUE")
    held, answers = holders(session, chosen((event,), None, False, service))
    require_confirmed({name: holder.confirm for name, holder in held.items()}, yes=True, reason=reason)
    given = file.read() if file is not None else None
    wanted = {name: _wanted(session, name, event, given, settings) for name in held}
    _agree(session, wanted, yes=yes)
    edited = {name: _stored(session, name, event, each, reason) for name, each in wanted.items()}
    _show(session, edited, answers.away)
    answers.require_all()


class _Edit(NamedTuple):
    """What is to be stored at one service: the value, the event's id when it was looked at, and what it changes."""

    content: Mapping[str, str]
    seen: str
    changes: Sequence[Mapping[str, Any]]


def _wanted(session: Session, name: str, event: str, given: bytes | None, settings: tuple[Setting, ...]) -> _Edit:
    """The service has checked the value; nothing is stored yet. Raises CliError."""
    from orderflow.cli.dlt.letters import PATH

    with session.client(name) as client:
        shown = client.get(f"{PATH}/{event}")
        content = _content(given if given is not None else _changed(shown, settings))
        preview = client.ask("POST", f"{PATH}/{event}/preview", body=content).body
    return _Edit(content, shown["letter"]["event_id"], preview["changes"])


def _stored(session: Session, name: str, event: str, wanted: _Edit, reason: str) -> Mapping[str, Any]:
    """The event as it stands then. Raises CliError, also if somebody has edited it since it was looked at."""
    from orderflow.cli.dlt.acting import act
    from orderflow.cli.dlt.letters import PATH

    body = {**wanted.content, "seen": wanted.seen, "reason": reason, "confirmed": True}
    with session.client(name) as client:
        return {**act(client, "PUT", f"{PATH}/{event}/value", body), "changes": wanted.changes}


def _agree(session: Session, wanted: Mapping[str, _Edit], *, yes: bool) -> None:
    """Show what would change, and ask. Raises RefusedError."""
    from orderflow.cli.errors import RefusedError
    from orderflow.cli.output import text

    if not session.out.as_json:
        for name, each in wanted.items():
            session.out.show(text(f"At {name} this changes:", "bold"))
            for change in each.changes:
                before, after = _or_nothing(change["before"]), _or_nothing(change["after"])
                session.out.show(text(f"  {change['field'] or '(value)'}: {before} -> {after}"))
    if yes:
        return
    try:
        agreed = click.confirm("Store it?", err=True)
    except click.Abort:
        agreed = False
    if not agreed:
        raise RefusedError("Nothing was stored. If you mean it, answer with y, or add: --yes")


def _or_nothing(value: str | None) -> str:
    return "nothing" if value is None else value


def _changed(shown: Mapping[str, Any], settings: tuple[Setting, ...]) -> bytes:
    from orderflow.cli.dlt.changing import in_editor, with_settings
    from orderflow.cli.dlt.letter_view import bytes_of

    value = bytes_of(shown["value"])
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


def _show(session: Session, edited: Mapping[str, Mapping[str, Any]], away: Mapping[str, str]) -> None:
    if session.out.as_json:
        found = [{"service": name, **letter} for name, letter in edited.items()]
        session.out.document({"edited": found, "unreachable": dict(away)})
        return
    from orderflow.cli.output import text

    for name, letter in edited.items():
        session.out.show(text(f"Edited at {name}; its id is now {letter['event_id']}."))
        session.out.show(text(f"See what it would do with: orderflow dlt rehearse {letter['event_id']}", "dim"))
