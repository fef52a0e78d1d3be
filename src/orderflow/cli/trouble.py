"""What is wrong and what waits: `orderflow health`, `lag`, `outage` and `expired`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.acting import act
from orderflow.cli.errors import CliError, ExitCode, NotFoundError, UnreachableError, counted
from orderflow.cli.http import ServiceClient
from orderflow.cli.lazy import Group
from orderflow.cli.output import WAITS, joined, text, total, words
from orderflow.cli.session import Answers, Session, ask, running_state, service_option, session_options
from orderflow.cli.tables import entry, moment, table, when

if TYPE_CHECKING:
    from rich.console import RenderableType

NOT_READY = 503


@click.command()
@session_options
def health(session: Session) -> None:
    """Show whether each service is ready, what is in its way, and what it judged an outage, on what evidence.

    Also shows dead events, alarms (what needs an operator, such as a refund that the bank refuses) and faults set on
    a game day. A service that waits for something carries on by itself once it is back.

    Exit code: 0 all is well, 1 something is wrong, 3 no service answers.

    \b
    orderflow health
    orderflow health --json | jq '.services[].problems'
    """
    from orderflow.cli.fault import named

    full = _full_disk(session)
    try:
        answers = ask(session, _ask_health)
    except UnreachableError as error:
        raise UnreachableError(f"{error}. Also, {full}" if full else str(error)) from error
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
        session.out.show(*_parts_of_health(answers.found))
        if any(waiting.values()):
            session.out.show(text(f"events that wait: {words(waiting)}; see them with: orderflow dlt list", "yellow"))
        session.out.show(*answers.sentences())
    if not healthy:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _full_disk(session: Session) -> str:
    """Of the home, where something runs on it; the disks of other machines are not ours to see."""
    from orderflow.local.home import full_disk

    settings = session.settings
    return full_disk(settings.home) if running_state(settings) is not None else ""


def _ask_health(client: ServiceClient) -> dict[str, Any]:
    readiness = client.ask("GET", "/health/ready", good=(NOT_READY,)).body
    return {**readiness, "stuck": _unless_away(client, "/ops/stuck"), "faults": _faults(client)}


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


def _parts_of_health(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    for name, each in found.items():
        style = "green" if _is_well(each) else "yellow" if each["ready"] else "bold red"
        yield joined(text(f"{name:<14}", "bold"), text("ready" if each["ready"] else "not ready", style))
        for component, problem in each["problems"].items():
            yield joined(text(f"  {component}: ", "red"), text(problem))
        for alarm, sentence in (each.get("alarms") or {}).items():
            yield joined(text(f"  alarm, {alarm}: ", "bold red"), text(sentence))
        for stuck in each["stuck"]:
            yield text(f"  stuck keys at {stuck['consumer']}: {stuck['keys']} (events: {words(stuck)})", "yellow")
        for fault in each["faults"]:
            yield text(f"  fault set: {_fault(fault)}", "bold magenta")
            yield text(f"  clear it with: orderflow fault clear {fault['id']}", "dim")


def _fault(fault: Mapping[str, Any]) -> str:
    which = f"{fault['event_type']} with {fault['field']}={fault['value']}"
    return f"{fault['id']}: {fault['error']} at {which}, {fault['share']:.0%} of the keys"


BY_PARTITION = ("service", "consumer", "topic", "partition", "committed", "end", "lag")


@click.command()
@click.option("--partitions", is_flag=True, help="Show one line per partition.")
@session_options
def lag(session: Session, partitions: bool) -> None:
    """Show how many records each consumer has still to handle, and which keys are stuck at it.

    A stuck key is an order with a failed event, which is being retried or is dead (given up); later events of that
    order are held behind it. A record that cannot be read is a key of its own. Exit code 3 if a service did not
    answer.

    \b
    orderflow lag
    orderflow lag --partitions
    orderflow lag --json | jq '[.lag[].lag] | add'
    """
    answers = ask(session, _ask_lag)
    rows, stuck = _rows_of_lag(answers.found, "lag"), _rows_of_lag(answers.found, "stuck")
    session.answer(answers, {"lag": rows, "stuck": stuck}, _parts_of_lag(rows, stuck, partitions))


def _ask_lag(client: ServiceClient) -> dict[str, Any]:
    return {"lag": client.get("/ops/lag"), "stuck": client.get("/ops/stuck")}


def _rows_of_lag(found: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    return [{"service": name, **row} for name, answer in found.items() for row in answer[part]]


def _parts_of_lag(
    rows: list[dict[str, Any]], stuck: list[dict[str, Any]], partitions: bool
) -> Iterator[RenderableType]:
    if partitions:
        lines = [tuple(row[column] for column in BY_PARTITION) for row in rows]
        yield table(BY_PARTITION, lines, right=("partition", "committed", "end", "lag"), drop=("service",))
    else:
        totals = [(*name, behind) for name, behind in _totals(rows).items()]
        yield table(("service", "consumer", "topic", "lag"), totals, right=("lag",))
    yield ""
    if not stuck:
        yield "No key is stuck."
        return
    counts = ("keys", *WAITS)
    columns = ("service", "consumer", *counts)
    lines = [(*(row[column] for column in columns), when(row["oldest"])) for row in stuck]
    yield table((*columns, "oldest"), lines, right=counts, drop=("service", "oldest"))
    if any(row["dead"] for row in stuck):
        yield "See what was given up with: orderflow dlt list"


def _totals(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], int]:
    totals: dict[tuple[str, str, str], int] = {}
    for row in rows:
        name = (row["service"], row["consumer"], row["topic"])
        totals[name] = totals.get(name, 0) + row["lag"]
    return totals


@click.group(cls=Group)
def outage() -> None:
    """Show what is judged an outage, and overrule it.

    When many orders fail alike at a consumer and none succeeds, that is judged an outage: the failing ones wait, a
    few are tried now and then, nothing is given up. If others of the same type succeed meanwhile, the outage ends by
    itself within 30 s, and those that still fail are poison.

    \b
    orderflow outage list
    orderflow outage overrule order PaymentSucceeded --as poison --reason "forged, ticket 4711"
    """


@outage.command(name="list")
@service_option
@session_options
def list_outages(session: Session, service: str | None) -> None:
    """List what is judged an outage, what is in doubt, and what was overruled.

    in doubt: two or more orders fail alike and nothing of the type has succeeded since, so no attempts are used up.
    If a service runs as several processes, you see the view of the one that answers.

    Exit code: 0 there is no outage, 1 there is one.

    \b
    orderflow outage list
    orderflow outage list --json | jq '.outages[] | select(.state == "outage")'
    """
    answers = _ask_outages(session, service)
    found = [{"service": name, **each} for name, its in answers.found.items() for each in its["outages"]]
    shown = (part for each in found for part in _parts_of_outage(each))
    session.answer(answers, {"outages": found}, shown if found else ["No outage."])
    if any(each["state"] == "outage" for each in found):
        raise click.exceptions.Exit(ExitCode.FAILED)


@outage.command()
@click.argument("consumer")
@click.argument("event_type", metavar="TYPE")
@click.option(
    "--as", "verdict", required=True, type=click.Choice(("poison", "outage")), help="What the failures are."
)
@click.option("--reason", required=True, metavar="TEXT", help="Why; recorded in the operators' log.")
@session_options
def overrule(session: Session, consumer: str, event_type: str, verdict: str, reason: str) -> None:
    """Declare failures of TYPE at CONSUMER an outage or poison, for an hour, in every process of its service.

    poison: events that fail are parked, tried six times over about a minute, and given up. outage: they wait until
    they succeed, and none is given up, even while others of the type succeed. The last word counts.

    \b
    orderflow outage overrule order PaymentSucceeded --as poison --reason "forged, ticket 4711"
    orderflow outage overrule inventory orderflow.PaymentSucceeded.v1 --as outage --reason "rolling back"
    """
    answers = _ask_outages(session)
    owner = next((name for name, its in answers.found.items() if consumer in its["consumers"]), None)
    if owner is None:
        answers.require_all()
        known = ", ".join(each for its in answers.found.values() for each in its["consumers"])
        raise NotFoundError(f"There is no consumer {consumer!r}, only {known}")
    body = {"consumer": consumer, "event_type": event_type, "verdict": verdict, "reason": reason}
    with session.client(owner) as client:
        made = act(client, "POST", "/ops/outages", body)
    until = moment(made["overruled"]["until"])
    told = text(f"Failures of {made['event_type']} at {made['consumer']} count as {verdict} until {until}.", "bold")
    session.out.answer({"service": owner, **made}, [told, "See what comes of it with: orderflow outage list"])


def _ask_outages(session: Session, service: str | None = None) -> Answers:
    return ask(session, lambda client: client.get("/ops/outages"), service)


def _parts_of_outage(outage: Mapping[str, Any]) -> Iterator[RenderableType]:
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


@click.group(cls=Group)
def expired() -> None:
    """Show records that expired before a consumer had read them, and acknowledge them.

    They are gone from the log. You can republish what is still in the outbox of the service that wrote them.

    \b
    orderflow expired list
    orderflow expired acknowledge payment --reason "republished, ticket 4711"
    """


@expired.command("list")
@session_options
def list_(session: Session) -> None:
    """Show what was lost, by consumer and partition, until it is acknowledged.

    Exit code 3 if a service did not answer.

    \b
    orderflow expired list
    orderflow expired list --json | jq '[.expired[].count] | add'
    """
    answers = ask(session, lambda client: client.get("/ops/expired"))
    rows = answers.rows()
    session.answer(answers, {"expired": rows}, _parts_of_expired(rows))


def _parts_of_expired(rows: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    columns = ("service", "consumer", "topic", "partition", "first_lost", "next_kept", "count")
    lines = [(*(row[column] for column in columns), when(row["noticed_at"])) for row in rows]
    numbers = ("partition", "first_lost", "next_kept", "count")
    shown = table((*columns, "noticed"), lines, right=numbers, drop=("service", "next_kept"))
    yield shown if rows else "No record expired unread."


@expired.command()
@click.argument("consumer")
@click.option(
    "--reason", metavar="TEXT", required=True, help="What you did about it; recorded in the operators' log."
)
@session_options
def acknowledge(session: Session, consumer: str, reason: str) -> None:
    """Acknowledge the records that CONSUMER has lost, so that they no longer raise an alarm.

    First republish what the outbox still has. Exit code 4 if the consumer has lost nothing.

    \b
    orderflow expired acknowledge payment --reason "republished, ticket 4711"
    """
    if not reason.strip():
        raise click.UsageError("Say what you did about the loss: --reason TEXT")
    answers = ask(session, lambda client: client.get("/ops/expired"))
    losers = {service for service, row in answers.each() if row["consumer"] == consumer}
    if not losers:
        answers.require_all()
        raise NotFoundError(f"No record that {consumer} had to read has expired; see: orderflow expired list")
    for name in losers:
        with session.client(name) as client:
            done = act(client, "POST", f"/ops/expired/{consumer}/acknowledge", {"reason": reason})
        lost = counted(done["records"], "lost record")
        session.out.answer({"service": name, **done}, [text(f"Acknowledged at {name}: {lost} of {consumer}.")])
