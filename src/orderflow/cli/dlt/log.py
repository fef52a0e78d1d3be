"""`orderflow dlt log`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.session import Session, session_options
from orderflow.registry import service_names

if TYPE_CHECKING:
    from rich.console import RenderableType

NUMBERED = re.compile(r"^(?:replay|fault) (\d+)")


@click.command()
@click.option("--service", type=click.Choice(service_names()), help="Only of this one.  [default: all]")
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

    asked = (service,) if service else service_names()
    answers = everywhere.ask(session, lambda client: client.get("/ops/actions", {"limit": limit}), asked)
    found = [{"service": name, **each} for name, told in answers.found.items() for each in told]
    found.sort(key=lambda each: datetime.fromisoformat(each["at"]), reverse=True)
    found = found[:limit]
    if session.out.as_json:
        session.out.document({"actions": found, "unreachable": answers.away})
    else:
        session.out.show(*(_parts(found) if found else ["Nothing was done yet."]))
        everywhere.show_away(session, answers)
    answers.require_all()


def _parts(found: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    from orderflow.cli.dlt.entries import entry
    from orderflow.cli.output import text
    from orderflow.cli.tables import when

    for each in found:
        done = text(f"{each['action']} {_target(each)}", "bold")
        why = text(f"because: {each['reason']}" if each["reason"] else "", "yellow")
        yield from entry(
            (when(each["at"], "dim"), text(each["service"]), text(each["who"], "cyan"), done),
            (text(each["result"]), why),
        )


def _target(each: Mapping[str, Any]) -> str:
    """A replay or a fault by the name that commands take: its number counts within its service."""
    return NUMBERED.sub(rf"{each['service']}-\1", each["target"])
