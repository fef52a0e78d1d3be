"""`orderflow outage`: what is taken for an outage, and an operator's word against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.session import Session, session_options
from orderflow.registry import service_names

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orderflow.cli.everywhere import Answers


@click.group()
def outage() -> None:
    """See what is taken for an outage, and overrule it.

    When many orders fail alike at a consumer and none succeeds, it is taken for an outage: the failing ones wait, a
    few are tried now and then, nothing is given up. When others of the same type succeed meanwhile, it ends by
    itself within 30 s, and those that still fail are poison.

    \b
    orderflow outage list
    orderflow outage overrule order PaymentSucceeded --as poison --reason "forged, ticket 4711"
    """


@outage.command(name="list")
@click.option("--service", type=click.Choice(service_names()), help="Only of this one.  [default: all]")
@session_options
def list_outages(session: Session, service: str | None) -> None:
    """List what is judged an outage, what is in doubt, and what was overruled.

    in doubt: two orders or more fail alike and nothing of the type has succeeded since, so no attempts are used up.
    Where several processes run one service, it is as the one that answers sees it.

    Exit code: 0 nothing is an outage, 1 something is.

    \b
    orderflow outage list
    orderflow outage list --json | jq '.outages[] | select(.state == "outage")'
    """
    from orderflow.cli import everywhere
    from orderflow.cli.errors import ExitCode

    answers = _ask(session, (service,) if service else service_names())
    found = [{"service": name, **each} for name, its in answers.found.items() for each in its["outages"]]
    if session.out.as_json:
        session.out.document({"outages": found, "unreachable": answers.away})
    else:
        shown = [part for each in found for part in _parts(each)]
        session.out.show(*(shown or ["No outage."]))
        everywhere.show_away(session, answers)
    answers.require_all()
    if any(each["state"] == "outage" for each in found):
        raise click.exceptions.Exit(ExitCode.FAILED)


@outage.command()
@click.argument("consumer")
@click.argument("event_type", metavar="TYPE")
@click.option("--as", "verdict", required=True, type=click.Choice(("poison", "outage")), help="What it is.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it goes into the operators' log.")
@session_options
def overrule(session: Session, consumer: str, event_type: str, verdict: str, reason: str) -> None:
    """Say what failures of TYPE at CONSUMER are, for an hour, in every process of its service.

    poison: those that fail are parked, tried six times over about a minute, and given up. outage: they wait until
    they succeed, and none is given up, even while others of the type succeed. Said again, the last word counts.

    \b
    orderflow outage overrule order PaymentSucceeded --as poison --reason "forged, ticket 4711"
    orderflow outage overrule inventory orderflow.PaymentSucceeded.v1 --as outage --reason "rolling back"
    """
    from orderflow.cli.dlt.acting import act
    from orderflow.cli.errors import NotFoundError
    from orderflow.cli.output import text
    from orderflow.cli.times import moment

    answers = _ask(session, service_names())
    owner = next((name for name, its in answers.found.items() if consumer in its["consumers"]), None)
    if owner is None:
        answers.require_all()
        known = ", ".join(each for its in answers.found.values() for each in its["consumers"])
        raise NotFoundError(f"There is no consumer {consumer!r}, only {known}")
    body = {"consumer": consumer, "event_type": event_type, "verdict": verdict, "reason": reason}
    with session.client(owner) as client:
        made = act(client, "POST", "/ops/outages", body)
    if session.out.as_json:
        session.out.document({"service": owner, **made})
        return
    until = moment(made["overruled"]["until"])
    session.out.show(
        text(f"Failures of {made['event_type']} at {made['consumer']} count as {verdict} until {until}.", "bold"),
        "See what comes of it with: orderflow outage list",
    )


def _ask(session: Session, services: tuple[str, ...]) -> Answers:
    from orderflow.cli import everywhere

    return everywhere.ask(session, lambda client: client.get("/ops/outages"), services)


def _parts(outage: Mapping[str, Any]) -> Iterator[RenderableType]:
    from orderflow.cli.output import text
    from orderflow.cli.tables import entry

    said = outage["overruled"]
    state = outage["state"] if outage["for_ms"] is None else f"outage for {outage['for_ms'] / 1000:.0f} s"
    failing = f"{outage['failing']} of {outage['tried']} failing" if outage["failing"] else ""
    yield from entry(
        (
            text(outage["consumer"], "bold"),
            text(outage["event_type"], "cyan"),
            text(state, "bold red" if outage["for_ms"] is not None else ""),
            text(failing),
        ),
        (
            text(outage["error"], "red"),
            text(f"overruled: {said['verdict']}, by {said['who']}: {said['reason']}" if said else "", "yellow"),
        ),
    )
