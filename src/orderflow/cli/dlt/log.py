"""`orderflow dlt log`."""

from __future__ import annotations

import click

from orderflow.cli.session import Session, session_options
from orderflow.settings import SERVICES


@click.command()
@click.option("--service", type=click.Choice(SERVICES), help="Only of this one.  [default: all four]")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most.")
@session_options
def log(session: Session, service: str | None, limit: int) -> None:
    """Show what operators did, latest first: who, when, what, to which event or replay, why, with what result.

    \b
    orderflow dlt log
    orderflow dlt log --service payment --json | jq -r '.actions[] | [.at, .who, .action, .reason] | @tsv'
    """
    from datetime import datetime

    from orderflow.cli import everywhere
    from orderflow.cli.output import table
    from orderflow.cli.times import moment

    asked = (service,) if service else SERVICES
    answers = everywhere.ask(session, lambda client: client.get("/ops/actions", {"limit": limit}), asked)
    found = [{"service": name, **each} for name, told in answers.found.items() for each in told]
    found.sort(key=lambda each: datetime.fromisoformat(each["at"]), reverse=True)
    found = found[:limit]
    if session.out.as_json:
        session.out.document({"actions": found, "unreachable": answers.away})
    else:
        columns = ("at", "service", "who", "action", "target", "reason", "result")
        rows = [(moment(each["at"]), *(each[column] for column in columns[1:])) for each in found]
        session.out.show(table(("time", *columns[1:]), rows) if found else "Nothing was done yet.")
        everywhere.show_away(session, answers)
    answers.require_all()
