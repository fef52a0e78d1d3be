"""`orderflow dlt show`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from orderflow.cli.session import Session, session_options
from orderflow.cli.values import event_or_position
from orderflow.registry import service_names


@click.command()
@click.argument("event", type=event_or_position, metavar="EVENT_ID")
@click.option("--service", type=click.Choice(service_names()), help="Ask this one only.  [default: all]")
@session_options
def show(session: Session, event: str, service: str | None) -> None:
    """Show a dead or parked event: why, its record, what has happened to it, its order, what waits behind it.

    EVENT_ID is the event's id, which several services may have given up; or, with --service, its position
    in that service's list. Of an event that waits no longer, what has happened to it is shown.

    \b
    orderflow dlt show 8ec9495d-610d-5954-a202-3d44caf9480b
    orderflow dlt show 17 --service inventory --json | jq .letters[0].value
    """
    from orderflow.cli import everywhere
    from orderflow.cli.dlt import letter_view
    from orderflow.cli.dlt.choosing import require_service
    from orderflow.cli.dlt.letters import PATH, require_found
    from orderflow.cli.output import text

    require_service((event,), service)
    asked = (service,) if service else service_names()
    answers = everywhere.ask(session, lambda client: client.get(f"{PATH}/{event}"), asked)
    found: list[dict[str, Any]] = [
        {"service": name, **letter, "order": _order(session, letter)}
        for name, letter in answers.found.items()
        if letter is not None
    ]
    past = {} if found else _past(session, event, answers.found)
    if session.out.as_json:
        told = [{"service": name, "history": history} for name, history in past.items()]
        session.out.document({"letters": found, "past": told, "unreachable": answers.away})
    else:
        for letter in found:
            session.out.show(*letter_view.parts(letter))
        for name, history in past.items():
            session.out.show(text(letter_view.end(name, history), "bold"))
            session.out.show(*letter_view.history(history), "")
        everywhere.show_away(session, answers)
    if not found and not past:
        require_found(event, answers)
    answers.require_all()


def _past(session: Session, event: str, services: Iterable[str]) -> Mapping[str, Any]:
    """By service, the history of an event that waits there no longer."""
    from orderflow.cli import everywhere
    from orderflow.cli.dlt.letters import PATH

    answers = everywhere.ask(session, lambda client: client.get(f"{PATH}/{event}/history"), services)
    return {name: history for name, history in answers.found.items() if history is not None}


def _order(session: Session, shown: Mapping[str, Any]) -> Any:
    """The order itself; None where its service does not answer, or knows no such order."""
    from orderflow.cli.errors import CliError
    from orderflow.cli.values import is_id

    key = shown["letter"]["key"]
    if not is_id(key):
        return None
    try:
        with session.client("order") as client:
            return client.get(f"/orders/{key}")
    except CliError:
        return None
