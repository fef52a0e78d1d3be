"""`orderflow dlt discard`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.dlt.choosing import Choice, choice_options
from orderflow.cli.errors import NotFoundError
from orderflow.cli.session import Session, session_options

if TYPE_CHECKING:
    from orderflow.cli.dlt.choosing import Holder
    from orderflow.cli.http import ServiceClient

MOST = 100_000


@click.command()
@choice_options
@click.option("--reason", metavar="TEXT", required=True, help="Why; it goes into the operators' log.")
@click.option("--yes", is_flag=True, help="Mean it, where the service wants that said.")
@session_options
def discard(session: Session, choice: Choice, reason: str, yes: bool) -> None:
    """Give events up for good: they will have no effect, and what waits behind them goes on.

    The record stays on the dead-letter topic, and the log says who discarded it and why.

    \b
    orderflow dlt discard 8ec9495d-610d-5954-a202-3d44caf9480b --reason "a test event in production"
    orderflow dlt discard 17 --service payment --yes --reason "charged by hand, ticket 4711"
    orderflow dlt discard --group 3f2a9c41d0e7 --reason "noise of a broken producer, ticket 4712"
    """
    from orderflow.cli.bars import heartbeat
    from orderflow.cli.dlt.acting import require_confirmed
    from orderflow.cli.dlt.choosing import holders
    from orderflow.cli.output import text
    from orderflow.cli.plain import counted

    if not reason.strip():
        raise click.UsageError("An event is discarded for good, so say why: --reason TEXT")
    held, answers = holders(session, choice)
    require_confirmed({name: holder.confirm for name, holder in held.items()}, yes=yes, reason=reason)
    done: list[dict[str, Any]] = []

    def told() -> str:
        return f"{counted(len(done), 'event')} discarded"

    for name, holder in held.items():
        before = len(done)
        with session.client(name) as client, heartbeat(told, hidden=session.out.as_json):
            gone = _discarded(client, choice, holder, {"reason": reason, "confirmed": yes})
            done.extend({"service": name, **letter} for letter in gone)
        if not session.out.as_json:
            session.out.show(text(f"Discarded at {name}: {counted(len(done) - before, 'event')}."))
    if session.out.as_json:
        session.out.document({"discarded": done, "unreachable": answers.away})
    answers.require_all()


def _discarded(
    client: ServiceClient, choice: Choice, holder: Holder, body: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Each letter, once it is. Raises CliError; of a group, what was handled or discarded meanwhile is left out."""
    from orderflow.cli.dlt.acting import act
    from orderflow.cli.dlt.letters import PATH, read_letters

    letters = holder.letters if choice.events else read_letters(client, choice.filter(), MOST)
    for letter in letters:
        try:
            act(client, "POST", f"{PATH}/{letter['position']}/discard", body)
        except NotFoundError:
            if choice.events:
                raise
        else:
            yield letter
