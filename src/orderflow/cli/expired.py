"""`orderflow expired`: records that the log dropped before a consumer had read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from orderflow.cli.session import Session, session_options


@click.group()
def expired() -> None:
    """See records that expired before a consumer had read them, and say that somebody knows.

    They are gone from the log. What the outbox of the service that wrote them still has can be published again.

    \b
    orderflow expired list
    orderflow expired acknowledge payment --reason "republished, ticket 4711"
    """


@expired.command("list")
@session_options
def list_(session: Session) -> None:
    """Show what was lost, by consumer and partition, until it is acknowledged.

    Exit code 3 when a service did not answer.

    \b
    orderflow expired list
    orderflow expired list --json | jq '[.expired[].count] | add'
    """
    from orderflow.cli import everywhere
    from orderflow.cli.tables import table, when

    answers = everywhere.ask(session, lambda client: client.get("/ops/expired"))
    rows = _rows(answers.found)
    if session.out.as_json:
        session.out.document({"expired": rows, "unreachable": answers.away})
    else:
        columns = ("service", "consumer", "topic", "partition", "first_lost", "next_kept", "count")
        lines = [(*(row[column] for column in columns), when(row["noticed_at"])) for row in rows]
        numbers = ("partition", "first_lost", "next_kept", "count")
        shown = table((*columns, "noticed"), lines, right=numbers, drop=("service", "next_kept"))
        session.out.show(shown if rows else "No record expired unread.")
        everywhere.show_away(session, answers)
    answers.require_all()


@expired.command()
@click.argument("consumer")
@click.option(
    "--reason", metavar="TEXT", required=True, help="What you did about it; it goes into the operators' log."
)
@session_options
def acknowledge(session: Session, consumer: str, reason: str) -> None:
    """Say that you know of the records that CONSUMER has lost: they are no alarm any more.

    Republish first what the outbox still has. Exit code 4 when the consumer has lost nothing.

    \b
    orderflow expired acknowledge payment --reason "republished, ticket 4711"
    """
    from orderflow.cli import everywhere
    from orderflow.cli.dlt.acting import act
    from orderflow.cli.errors import NotFoundError
    from orderflow.cli.output import text
    from orderflow.cli.plain import counted

    if not reason.strip():
        raise click.UsageError("Say what you did about the loss: --reason TEXT")
    answers = everywhere.ask(session, lambda client: client.get("/ops/expired"))
    losers = {row["service"] for row in _rows(answers.found) if row["consumer"] == consumer}
    if not losers:
        answers.require_all()
        raise NotFoundError(f"No record that {consumer} had to read has expired; see: orderflow expired list")
    for name in losers:
        with session.client(name) as client:
            done = act(client, "POST", f"/ops/expired/{consumer}/acknowledge", {"reason": reason})
        if session.out.as_json:
            session.out.document({"service": name, **done})
        else:
            lost = counted(done["records"], "lost record")
            session.out.show(text(f"Acknowledged at {name}: {lost} of {consumer}."))


def _rows(found: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [{"service": name, **row} for name, rows in found.items() for row in rows or ()]
