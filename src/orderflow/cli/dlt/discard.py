"""`orderflow dlt discard`."""

from __future__ import annotations

import click

from orderflow.cli.session import Session, session_options
from orderflow.cli.values import event_or_position
from orderflow.settings import SERVICES


@click.command()
@click.argument("events", type=event_or_position, metavar="EVENT_ID...", nargs=-1, required=True)
@click.option("--service", type=click.Choice(SERVICES), help="Only at this one.  [default: wherever it is]")
@click.option("--reason", metavar="TEXT", required=True, help="Why; it goes into the operators' log.")
@click.option("--yes", is_flag=True, help="Mean it, where the service wants that said.")
@session_options
def discard(session: Session, events: tuple[str, ...], service: str | None, reason: str, yes: bool) -> None:
    """Give events up for good: they will have no effect, and what waits behind them goes on.

    The record stays on the dead-letter topic, and the log says who discarded it and why.

    \b
    orderflow dlt discard 8ec9495d-610d-5954-a202-3d44caf9480b --reason "a test event in production"
    orderflow dlt discard 17 --service payment --yes --reason "charged by hand, ticket 4711"
    """
    from orderflow.cli.dlt.acting import act, require_confirmed
    from orderflow.cli.dlt.choosing import chosen, holders
    from orderflow.cli.dlt.letters import PATH
    from orderflow.cli.output import text

    if not reason.strip():
        raise click.UsageError("An event is discarded for good, so say why: --reason TEXT")
    held, answers = holders(session, chosen(events, None, False, service))
    require_confirmed({name: holder.confirm for name, holder in held.items()}, yes=yes, reason=reason)
    done = []
    for name, holder in held.items():
        with session.client(name) as client:
            for letter in holder.letters:
                body = {"reason": reason, "confirmed": yes}
                act(client, "POST", f"{PATH}/{letter['position']}/discard", body)
                done.append({"service": name, **letter})
                if not session.out.as_json:
                    session.out.show(text(f"Discarded at {name}: {letter['event_type']} {letter['event_id']}"))
    if session.out.as_json:
        session.out.document({"discarded": done, "unreachable": answers.away})
    answers.require_all()
