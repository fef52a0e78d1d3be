"""`orderflow dlt list`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from orderflow.cli.session import Session, session_options
from orderflow.cli.values import age, key
from orderflow.registry import service_names

if TYPE_CHECKING:
    from orderflow.cli.everywhere import Answers

STATES = ("dead", "retrying", "held", "parked", "all")


@click.command(name="list")
@click.option("--service", type=click.Choice(service_names()), help="Only of this one.  [default: all]")
@click.option("--topic", metavar="TOPIC", help="Only what came from this topic.")
@click.option(
    "--type", "event_type", metavar="TYPE", help="Only of this type: OrderPlaced, orderflow.OrderPlaced.v1."
)
@click.option("--fingerprint", metavar="GROUP", help="Only of this group; `orderflow dlt groups` shows them.")
@click.option("--order", "key", type=key, metavar="ORDER_ID", help="Only of this order.")
@click.option(
    "--older-than", "older_than_ms", type=age, metavar="AGE", help="Only what came in so long ago: 10m, 2h."
)
@click.option(
    "--state",
    type=click.Choice(STATES),
    default="dead",
    show_default=True,
    help="dead: given up. retrying: failed, to be tried again. held: waits behind such a one. parked: both.",
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Most of a service.")
@session_options
def list_letters(
    session: Session,
    service: str | None,
    topic: str | None,
    event_type: str | None,
    fingerprint: str | None,
    key: str | None,
    older_than_ms: int | None,
    state: str,
    limit: int,
) -> None:
    """List what each service has given up, oldest first, and tell how many events wait in all.

    An event that several consumers have given up is counted, and listed, once for each of them.
    Exit code 3 when a service did not answer.

    \b
    orderflow dlt list
    orderflow dlt list --order 01981c5e-7a40-7000-8000-0123456789ab --state all
    orderflow dlt list --topic order-events --older-than 10m
    orderflow dlt list --service payment --json | jq -r '.dead_letters[].event_id'
    """
    filters = {"topic": topic, "type": event_type, "fingerprint": fingerprint, "key": key}
    wanted: dict[str, str | int] = {name: value for name, value in filters.items() if value is not None}
    if older_than_ms is not None:
        wanted["older_than_ms"] = older_than_ms
    wanted["state"] = state
    _list(session, service, wanted, limit)


def _list(session: Session, service: str | None, wanted: Mapping[str, str | int], limit: int) -> None:
    from orderflow.cli import everywhere
    from orderflow.cli.counts import total, words
    from orderflow.cli.dlt import letter_view
    from orderflow.cli.dlt.letters import read_letters

    asked = (service,) if service else service_names()
    answers = everywhere.ask(session, lambda client: read_letters(client, wanted, limit), asked)
    stuck = everywhere.ask(session, lambda client: client.get("/ops/parked"), asked)
    waiting = total(each for rows in stuck.found.values() for each in rows)
    letters = [{"service": name, **letter} for name, found in answers.found.items() for letter in found]
    if session.out.as_json:
        session.out.document({"dead_letters": letters, "waiting": waiting, "unreachable": answers.away})
    else:
        none = "No dead letters." if wanted == {"state": "dead"} else "No such events."
        session.out.show(*(letter_view.listed(letters) if letters else [none]))
        if any(waiting.values()):
            where = f" at {service}" if service else ""
            session.out.show("", f"events that wait{where}: {words(waiting)}")
        _tell_more(session, answers, limit)
    answers.require_all()


def _tell_more(session: Session, answers: Answers, limit: int) -> None:
    from orderflow.cli.everywhere import show_away

    if any(len(found) == limit for found in answers.found.values()):
        session.out.show("", f"There may be more: these are the first {limit} of a service. Wanted: --limit N")
    show_away(session, answers)
