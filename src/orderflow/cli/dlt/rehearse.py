"""`orderflow dlt rehearse`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.dlt.choosing import Choice, choice_options
from orderflow.cli.errors import ExitCode
from orderflow.cli.session import Session, session_options

if TYPE_CHECKING:
    from orderflow.cli.http import ServiceClient

WAIT_S = 120.0
GOOD = ("succeeds", "duplicate")


@click.command()
@choice_options
@click.option("--limit", type=click.IntRange(1, 999), default=100, show_default=True, help="Most of a service.")
@session_options
def rehearse(session: Session, choice: Choice, limit: int) -> None:
    """Show what a replay would do with today's code and data: verdict, changes, and what would be published.

    It runs the real thing in a transaction that is rolled back: no row changes, nothing is published, no bank is
    called. An order's events are rehearsed in their order, those that wait behind included.

    \b
    succeeds   it would be handled now
    duplicate  it was handled before; a replay changes nothing
    illegal    it cannot happen in the state that the order is in
    fails      it would fail again, and how
    held       it would go on waiting, behind one that fails
    busy       live traffic is at work on that order: ask again

    Exit code: 0 all would succeed, 1 some would not, 3 a service did not answer.

    \b
    orderflow dlt rehearse 8ec9495d-610d-5954-a202-3d44caf9480b
    orderflow dlt rehearse --group 3f2a9c41d0e7
    orderflow dlt rehearse --all --service payment --json | jq '.rehearsed[] | select(.verdict != "succeeds")'
    """
    from orderflow.cli import everywhere
    from orderflow.cli.bars import heartbeat
    from orderflow.cli.dlt.choosing import holders

    held, searched = holders(session, choice, limit + 1)
    asked = {"filter": choice.filter(), "limit": limit}
    with heartbeat(lambda: f"{', '.join(held)} at rehearsal", hidden=session.out.as_json):
        answers = everywhere.ask(session, lambda client: _ask(client, asked), held).beside(searched)
    found = [{"service": name, **each} for name, told in answers.found.items() for each in told]
    if session.out.as_json:
        session.out.document({"rehearsed": found, "unreachable": answers.away})
    else:
        _show(session, found)
        if any(len(holder.letters) > limit for holder in held.values()):
            session.out.show(f"There are more: these are the first {limit} of a service. Wanted: --limit N")
        everywhere.show_away(session, answers)
    answers.require_all()
    if any(each["verdict"] not in GOOD for each in found):
        raise click.exceptions.Exit(ExitCode.FAILED)


def _ask(client: ServiceClient, asked: object) -> Any:
    return client.ask("POST", "/ops/rehearsals", body=asked, wait_s=WAIT_S).body


def _show(session: Session, found: Sequence[Mapping[str, Any]]) -> None:
    from orderflow.cli.dlt.rehearsal_view import listed, summary

    session.out.show(*listed(found), "", summary(found))
