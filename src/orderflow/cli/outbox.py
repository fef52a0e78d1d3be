"""`orderflow outbox`: see what waits to be published."""

from __future__ import annotations

import click

from orderflow.cli.session import Session, session_options


@click.group()
def outbox() -> None:
    """See what waits to be published.

    \b
    orderflow outbox status
    """


@outbox.command()
@session_options
def status(session: Session) -> None:
    """How many events each service has written and not yet published, and how old the oldest is.

    A number that stays, or an age that grows, says that the log cannot be reached or the relay
    does not run. Exit code 3 when a service did not answer.

    \b
    orderflow outbox status
    orderflow outbox status --json | jq '[.services[].unsent] | add'
    """
    from orderflow.cli import everywhere
    from orderflow.cli.output import table
    from orderflow.cli.times import duration

    answers = everywhere.ask(session, lambda client: client.get("/ops/outbox"))
    if session.out.as_json:
        session.out.document({"services": answers.found, "unreachable": answers.away})
    else:
        rows = [
            (name, backlog["unsent"], duration(backlog["oldest_ms"]) if backlog["unsent"] else "-")
            for name, backlog in answers.found.items()
        ]
        session.out.show(table(("service", "unsent", "oldest"), rows, right=("unsent", "oldest")))
        everywhere.show_away(session, answers)
    answers.require_all()
