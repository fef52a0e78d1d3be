"""`orderflow dlt`: see the events that were given up."""

from __future__ import annotations

from typing import Any

import click

from orderflow.cli.session import Session, session_options
from orderflow.cli.values import event_or_position
from orderflow.settings import SERVICES


@click.group()
def dlt() -> None:
    """See the events that were given up (dead letters).

    A consumer gives an event up when it cannot be read, or has failed too often. The later events of that
    order stay held at that consumer; every other order flows. The record, with its bytes and the reason,
    is also on the topic TOPIC.DLT.

    \b
    orderflow dlt list
    orderflow dlt show 8ec9495d-610d-5954-a202-3d44caf9480b
    orderflow topic tail payment-status.DLT
    """


@dlt.command(name="list")
@click.option("--service", type=click.Choice(SERVICES), help="Only of this one.  [default: all four]")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Most of a service.")
@session_options
def list_letters(session: Session, service: str | None, limit: int) -> None:
    """List what each service has given up, oldest first.

    Exit code 3 when a service did not answer.

    \b
    orderflow dlt list
    orderflow dlt list --service payment --json | jq -r '.dead_letters[].event_id'
    """
    from orderflow.cli import everywhere, letter_view
    from orderflow.cli.letters import read_letters

    asked = (service,) if service else SERVICES
    answers = everywhere.ask(session, lambda client: read_letters(client, limit), asked)
    letters = [{"service": name, **letter} for name, found in answers.found.items() for letter in found]
    if session.out.as_json:
        session.out.document({"dead_letters": letters, "unreachable": answers.away})
    else:
        session.out.show(letter_view.table_of(letters) if letters else "No dead letters.")
        everywhere.show_away(session, answers)
    answers.require_all()


@dlt.command()
@click.argument("event", type=event_or_position, metavar="EVENT_ID")
@click.option("--service", type=click.Choice(SERVICES), help="Ask this one only.  [default: all four]")
@session_options
def show(session: Session, event: str, service: str | None) -> None:
    """Show a dead or parked event with its record: why, how often, its headers, its value.

    EVENT_ID is the event's id, which several services may have given up; or, with --service, its position
    in that service's list.

    \b
    orderflow dlt show 8ec9495d-610d-5954-a202-3d44caf9480b
    orderflow dlt show 17 --service inventory --json | jq .letters[0].value
    """
    from orderflow.cli import everywhere, letter_view
    from orderflow.cli.letters import require_found

    if event.isdigit() and service is None:
        raise click.UsageError(
            f"The position {event} counts within one service. Wanted: --service NAME with it, or an event's id"
        )
    asked = (service,) if service else SERVICES
    answers = everywhere.ask(session, lambda client: client.get(f"/ops/dead-letters/{event}"), asked)
    found: list[dict[str, Any]] = [
        {"service": name, **letter} for name, letter in answers.found.items() if letter is not None
    ]
    if session.out.as_json:
        session.out.document({"letters": found, "unreachable": answers.away})
    else:
        for letter in found:
            session.out.show(*letter_view.parts(letter))
        everywhere.show_away(session, answers)
    if not found:
        require_found(event, answers)
    answers.require_all()
