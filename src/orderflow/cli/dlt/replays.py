"""`orderflow dlt replays`, `pause` and `resume`."""

from __future__ import annotations

from typing import Any

import click

from orderflow.cli.dlt.acting import act, confirm_options
from orderflow.cli.dlt.following import ReplayName
from orderflow.cli.session import Session, session_options
from orderflow.registry import service_names


def replay_name(value: Any) -> ReplayName:
    """`payment-3`. Raises click.BadParameter."""
    if isinstance(value, ReplayName):
        return value
    service, _, number = str(value).rpartition("-")
    if service not in service_names() or not (number.isascii() and number.isdigit() and len(number) <= 15):
        raise click.BadParameter(
            f"{value!r} is no replay. Wanted: SERVICE-NUMBER such as payment-3; `orderflow dlt replays` shows them"
        )
    return ReplayName(service, int(number))


@click.command()
@click.option("--service", type=click.Choice(service_names()), help="Only of this one.  [default: all]")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Most of a service.")
@session_options
def replays(session: Session, service: str | None, limit: int) -> None:
    """Show how the latest replays stand, latest first.

    waiting: not sent yet. under way: sent, no outcome yet. gone: it was no longer dead when its turn came.

    \b
    orderflow dlt replays
    orderflow dlt replays --json | jq '.replays[] | select(.state != "done")'
    """
    from datetime import datetime

    from orderflow.cli import everywhere
    from orderflow.cli.dlt.replaying import show_replays

    asked = (service,) if service else service_names()
    answers = everywhere.ask(session, lambda client: client.get("/ops/replays", {"limit": limit}), asked)
    told = [{"service": name, **each} for name, its in answers.found.items() for each in its]
    told.sort(key=lambda each: datetime.fromisoformat(each["created_at"]), reverse=True)
    found = {str(ReplayName(each["service"], each["number"])): each for each in told}
    if session.out.as_json:
        listed = [{"replay": name, **each} for name, each in found.items()]
        session.out.document({"replays": listed, "unreachable": answers.away})
    else:
        if found:
            show_replays(session, found)
        else:
            session.out.show("No replays.")
        everywhere.show_away(session, answers)
    answers.require_all()


@click.command()
@click.argument("name", type=replay_name, metavar="REPLAY")
@click.option("--reason", metavar="TEXT", default="", help="Why; it goes into the operators' log.")
@session_options
def pause(session: Session, name: ReplayName, reason: str) -> None:
    """Hold a replay: what is under way ends, nothing more is sent.

    \b
    orderflow dlt pause payment-3
    """
    with session.client(name.service) as client:
        held = act(client, "POST", f"/ops/replays/{name.number}/pause", {"reason": reason})
    if session.out.as_json:
        session.out.document({"replay": str(name), "service": name.service, **held})
    else:
        session.out.show(f"{name} is held. Go on with: orderflow dlt resume {name}")


@click.command()
@click.argument("name", type=replay_name, metavar="REPLAY")
@click.option("--detach", is_flag=True, help="Do not wait; the service goes on by itself.")
@confirm_options
@session_options
def resume(session: Session, name: ReplayName, detach: bool, yes: bool, reason: str) -> None:
    """Go on with a replay that was paused, or stopped by itself, and follow it to its end.

    Exit code: 0 all went through, 1 some failed again or it was stopped.

    \b
    orderflow dlt resume payment-3
    orderflow dlt resume payment-3 --detach --yes --reason "the bank is back"
    """
    from orderflow.cli.dlt.replaying import conclude

    with session.client(name.service) as client:
        body = {"reason": reason, "confirmed": yes}
        resumed = act(client, "POST", f"/ops/replays/{name.number}/resume", body)
    conclude(session, {name.service: resumed}, {}, detach=detach)
