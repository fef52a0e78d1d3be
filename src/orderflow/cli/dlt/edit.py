"""`orderflow dlt edit`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, BinaryIO

import click

from orderflow.cli.dlt.acting import confirm_options
from orderflow.cli.dlt.changing import Setting, setting
from orderflow.cli.session import Session, session_options
from orderflow.cli.values import event_or_position
from orderflow.settings import SERVICES


@click.command()
@click.argument("event", type=event_or_position, metavar="EVENT_ID")
@click.option("--service", type=click.Choice(SERVICES), help="Only at this one.  [default: wherever it is dead]")
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

    The new value must fit the event's type and keep its order. What came in is kept; the edited event gets an id of
    its own, so that it is told apart from a duplicate. Without --value and --set your $EDITOR opens. A VALUE is JSON,
    or else text; a FIELD may be a path.

    \b
    orderflow dlt edit 8ec9495d-610d-5954-a202-3d44caf9480b --set currency=EUR --set items.0.quantity=2
    orderflow dlt edit 8ec9495d-610d-5954-a202-3d44caf9480b --value mended.json --yes --reason "ticket 4711"
    orderflow dlt edit 17 --service inventory
    """
    from orderflow.cli.dlt.acting import act, require_confirmed
    from orderflow.cli.dlt.choosing import chosen, holders
    from orderflow.cli.dlt.letters import PATH

    if file is not None and settings:
        raise click.UsageError("Say the new value in one way: --value FILE, or --set FIELD=VALUE")
    held, answers = holders(session, chosen((event,), None, False, service))
    require_confirmed({name: holder.confirm for name, holder in held.items()}, yes=yes, reason=reason)
    given = file.read() if file is not None else None
    edited: dict[str, Any] = {}
    for name in held:
        with session.client(name) as client:
            value = given if given is not None else _changed(client.get(f"{PATH}/{event}"), settings)
            body = {**_content(value), "reason": reason, "confirmed": yes}
            edited[name] = act(client, "PUT", f"{PATH}/{event}/value", body)
    _show(session, edited, answers.away)
    answers.require_all()


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
