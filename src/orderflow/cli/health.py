"""`orderflow health`: what is wrong, in every service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.errors import CliError, ExitCode, UnreachableError
from orderflow.cli.session import Session, session_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orderflow.cli.http import ServiceClient

NOT_READY = 503


@click.command()
@session_options
def health(session: Session) -> None:
    """Show whether each service is ready, what hinders it, what it has judged an outage and on what evidence.

    Events that were given up, alarms (what an operator has to see to, such as a refund that the bank refuses), and
    faults that were set on purpose (game days), are told too. What a service waits for it takes up again by itself
    once that is back.

    Exit code: 0 all is well, 1 something is wrong, 3 no service answers.

    \b
    orderflow health
    orderflow health --json | jq '.services[].problems'
    """
    from orderflow.cli import everywhere
    from orderflow.cli.counts import total, words
    from orderflow.cli.fault import named
    from orderflow.cli.output import text

    full = _full_disk(session)
    try:
        answers = everywhere.ask(session, _ask)
    except UnreachableError as error:
        raise UnreachableError(f"{error}. Mind that {full}" if full else str(error)) from error
    for name, each in answers.found.items():
        each["faults"] = [named(name, fault) for fault in each["faults"]]
    waiting = total(stuck for each in answers.found.values() for stuck in each["stuck"])
    healthy = not answers.away and not full and all(_is_well(each) for each in answers.found.values())
    if session.out.as_json:
        found = {"healthy": healthy, "services": answers.found, "waiting": waiting, "unreachable": answers.away}
        session.out.document({**found, "problems": {"disk": full} if full else {}})
    else:
        if full:
            session.out.show(text(f"disk: {full}", "bold red"))
        session.out.show(*_parts(answers.found))
        if any(waiting.values()):
            session.out.show(text(f"events that wait: {words(waiting)}; see them with: orderflow dlt list", "yellow"))
        everywhere.show_away(session, answers)
    if not healthy:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _full_disk(session: Session) -> str:
    """Of the home, where something runs on it; the disks of other machines are not ours to see."""
    from orderflow.cli.running import running_state
    from orderflow.local.home import full_disk

    settings = session.settings
    return full_disk(settings.home) if running_state(settings) is not None else ""


def _ask(client: ServiceClient) -> dict[str, Any]:
    readiness = client.ask("GET", "/health/ready", good=(NOT_READY,)).body
    return {**readiness, "stuck": _unless_away(client, "/ops/parked"), "faults": _faults(client)}


def _faults(client: ServiceClient) -> list[Any]:
    found = _unless_away(client, "/ops/faults")
    return list(found["faults"]) if isinstance(found, dict) else []


def _unless_away(client: ServiceClient, path: str) -> Any:
    """What stands in its database, which may be what is away; and faults are there on a game day only."""
    try:
        return client.get(path)
    except CliError:
        return []


def _is_well(each: Mapping[str, Any]) -> bool:
    calm = not each["faults"] and not each.get("alarms")
    return each["ready"] and calm and not any(stuck["dead"] for stuck in each["stuck"])


def _parts(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    from orderflow.cli.counts import words
    from orderflow.cli.output import joined, text

    for name, each in found.items():
        style = "green" if _is_well(each) else "yellow" if each["ready"] else "bold red"
        yield joined(text(f"{name:<14}", "bold"), text("ready" if each["ready"] else "not ready", style))
        for component, problem in each["problems"].items():
            yield joined(text(f"  {component}: ", "red"), text(problem))
        for alarm, sentence in (each.get("alarms") or {}).items():
            yield joined(text(f"  alarm, {alarm}: ", "bold red"), text(sentence))
        for stuck in each["stuck"]:
            yield text(f"  stuck orders at {stuck['consumer']}: {stuck['keys']} (events: {words(stuck)})", "yellow")
        for fault in each["faults"]:
            yield text(f"  fault set: {_fault(fault)}", "bold magenta")
            yield text(f"  take it out with: orderflow fault clear {fault['id']}", "dim")


def _fault(fault: Mapping[str, Any]) -> str:
    which = f"{fault['event_type']} with {fault['field']}={fault['value']}"
    return f"{fault['id']}: {fault['error']} at {which}, {fault['share']:.0%} of the keys"
