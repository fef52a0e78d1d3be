"""`orderflow dlt groups` and `orderflow dlt note`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.session import Session, session_options
from orderflow.registry import service_names

if TYPE_CHECKING:
    from rich.console import RenderableType

TYPES_SHOWN = 3


@click.command()
@click.option("--service", type=click.Choice(service_names()), help="Only of this one.  [default: all]")
@session_options
def groups(session: Session, service: str | None) -> None:
    """Show what was given up by cause: events with one fingerprint failed with the same error at the same place.

    \b
    orderflow dlt groups
    orderflow dlt rehearse --group 3f2a9c41d0e7
    orderflow dlt groups --json | jq '.groups[] | [.service, .count, .error]'
    """
    from orderflow.cli import everywhere

    asked = (service,) if service else service_names()
    answers = everywhere.ask(session, lambda client: client.get("/ops/dead-letter-groups"), asked)
    found = [{"service": name, **group} for name, each in answers.found.items() for group in each]
    if session.out.as_json:
        session.out.document({"groups": found, "unreachable": answers.away})
    else:
        session.out.show(*_parts(found))
        everywhere.show_away(session, answers)
    answers.require_all()


@click.command()
@click.argument("fingerprint", metavar="GROUP")
@click.argument("note_text", metavar="TEXT")
@click.option("--service", type=click.Choice(service_names()), help="Only there.  [default: wherever the group is]")
@session_options
def note(session: Session, fingerprint: str, note_text: str, service: str | None) -> None:
    """Note what is known of a group, for the others. An empty TEXT takes the note away.

    \b
    orderflow dlt note 3f2a9c41d0e7 "bad release 1.4.2, mended in 1.4.3; replay after the rollout"
    """
    from urllib.parse import quote

    from orderflow.cli import everywhere
    from orderflow.cli.dlt.acting import act
    from orderflow.cli.errors import NotFoundError

    path = f"/ops/dead-letter-groups/{quote(fingerprint, safe='')}/note"

    def put(client: Any) -> Any:
        return act(client, "PUT", path, {"note": note_text})

    answers = everywhere.ask(session, put, (service,) if service else service_names())
    noted = {name: group for name, group in answers.found.items() if group is not None}
    if not noted:
        answers.require_all()
        raise NotFoundError(f"There is no group {fingerprint}. See the groups with: orderflow dlt groups")
    if session.out.as_json:
        session.out.document({"services": noted, "unreachable": answers.away})
    else:
        session.out.show(f"Noted at {', '.join(noted)}.")
        everywhere.show_away(session, answers)
    answers.require_all()


def _parts(found: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    from orderflow.cli.dlt.entries import entry
    from orderflow.cli.dlt.letter_view import because, short
    from orderflow.cli.output import text
    from orderflow.cli.plain import counted
    from orderflow.cli.times import moment

    if not found:
        yield "No dead letters."
    for group in found:
        seen = f"first {moment(group['first_seen'])}, last {moment(group['last_seen'])}"
        yield from entry(
            (
                text(group["fingerprint"], "bold"),
                text(group["service"]),
                text(f"{counted(group['count'], 'event')} of {counted(group['keys'], 'order')}"),
                text(_types(group["event_types"]), "cyan"),
            ),
            (
                text(short(because(group)), "red"),
                text(f"{seen}; see one: orderflow dlt show {group['example']} --service {group['service']}", "dim"),
                text(f"note: {group['note']}" if group["note"] else "", "yellow"),
            ),
        )


def _types(event_types: Sequence[str]) -> str:
    """The first of them: whoever writes bad records chooses what they call themselves."""
    from orderflow.cli.dlt.letter_view import short

    shown = ", ".join(short(each) or "(no type)" for each in event_types[:TYPES_SHOWN])
    more = len(event_types) - TYPES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
