"""`orderflow dlt list`, `groups`, `note`, `show` and `log`: what was given up, why, and what was done about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from msgspec import to_builtins

from orderflow.cli.acting import act
from orderflow.cli.dlt import views
from orderflow.cli.dlt.selection import PATH, of_service, read_details, read_letters, require_found, require_service
from orderflow.cli.errors import CliError, NotFoundError
from orderflow.cli.output import text, total, words
from orderflow.cli.session import Answers, Session, ask, service_option, session_options
from orderflow.cli.values import age, event_or_position, is_id, key
from orderflow.core.operations.model import DeadLetterDetails, DeadLetterGroup, HistoryEntry, OperatorAction
from orderflow.registry import service_names

if TYPE_CHECKING:
    from rich.console import RenderableType


STATES = ("dead", "retrying", "held", "parked", "all")


@click.command(name="list")
@service_option
@click.option("--topic", metavar="TOPIC", help="Only events from this topic.")
@click.option(
    "--type", "event_type", metavar="TYPE", help="Only events of this type: OrderPlaced, orderflow.OrderPlaced.v1."
)
@click.option("--fingerprint", metavar="GROUP", help="Only this group; `orderflow dlt groups` lists them.")
@click.option("--order", "key", type=key, metavar="ORDER_ID", help="Only events of this order.")
@click.option(
    "--older-than",
    "older_than_ms",
    type=age,
    metavar="AGE",
    help="Only events that came in at least this long ago: 10m, 2h.",
)
@click.option(
    "--state",
    type=click.Choice(STATES),
    default="dead",
    show_default=True,
    help="dead: given up. retrying: failed, will be retried. held: waits behind one of those. parked: retrying "
    "or held.",
)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Maximum number per service."
)
@session_options
def list_letters(
    session: Session,
    service: str | None,
    topic: str | None,
    event_type: str | None,
    fingerprint: str | None,
    key: str | None,
    older_than_ms: int | None,
    state: str,
    limit: int,
) -> None:
    """List each service's dead events, oldest first, and count all events that wait.

    An event that several consumers gave up is listed and counted once for each. Exit code 3 if a service did not
    answer.

    \b
    orderflow dlt list
    orderflow dlt list --order 01981c5e-7a40-7000-8000-0123456789ab --state all
    orderflow dlt list --topic order-events --older-than 10m
    orderflow dlt list --service payment --json | jq -r '.dead_letters[].event_id'
    """
    filters = {"topic": topic, "type": event_type, "fingerprint": fingerprint, "key": key}
    wanted: dict[str, str | int] = {name: value for name, value in filters.items() if value is not None}
    if older_than_ms is not None:
        wanted["older_than_ms"] = older_than_ms
    wanted["state"] = state
    answers = ask(session, lambda client: read_letters(client, wanted, limit), service)
    stuck = ask(session, lambda client: client.get("/ops/stuck"), service)
    waiting = total(row for _, row in stuck.each())
    told = {"dead_letters": [of_service(*each) for each in answers.each()], "waiting": waiting}
    none = "No dead letters." if wanted == {"state": "dead"} else "No matching events."
    where = f" at {service}" if service else ""
    session.answer(answers, told, _parts_of_list(answers, none, where, waiting, limit))


def _parts_of_list(
    answers: Answers, none: str, where: str, waiting: Mapping[str, int], limit: int
) -> Iterator[RenderableType]:
    letters = list(answers.each())
    yield from views.letters(letters) if letters else [none]
    if any(waiting.values()):
        yield from ("", f"events that wait{where}: {words(waiting)}")
    if any(len(found) == limit for found in answers.found.values()):
        yield from ("", f"There may be more: these are the first {limit} per service. For more, use --limit N")


@click.command()
@service_option
@session_options
def groups(session: Session, service: str | None) -> None:
    """Group dead events by cause: events with the same fingerprint failed with the same error at the same place.

    \b
    orderflow dlt groups
    orderflow dlt rehearse --group 3f2a9c41d0e7
    orderflow dlt groups --json | jq '.groups[] | [.service, .count, .error]'
    """
    answers = ask(session, lambda client: client.read(list[DeadLetterGroup], "/ops/dead-letter-groups"), service)
    told = {"groups": [of_service(*each) for each in answers.each()]}
    session.answer(answers, told, views.groups(list(answers.each())))


@click.command()
@click.argument("fingerprint", metavar="GROUP")
@click.argument("note_text", metavar="TEXT")
@click.option(
    "--service", type=click.Choice(service_names()), help="Only at this service.  [default: wherever the group is]"
)
@session_options
def note(session: Session, fingerprint: str, note_text: str, service: str | None) -> None:
    """Attach a note to a group, for other operators. An empty TEXT removes it.

    \b
    orderflow dlt note 3f2a9c41d0e7 "bad release 1.4.2, fixed in 1.4.3; replay after the rollout"
    """
    path = f"/ops/dead-letter-groups/{quote(fingerprint, safe='')}/note"

    def put(client: Any) -> Any:
        return act(client, "PUT", path, {"note": note_text})

    answers = ask(session, put, service)
    noted = {name: group for name, group in answers.found.items() if group is not None}
    if not noted:
        answers.require_all()
        raise NotFoundError(f"There is no group {fingerprint}. See the groups with: orderflow dlt groups")
    session.answer(answers, {"services": noted}, [f"Noted at {', '.join(noted)}."])


@click.command()
@click.argument("event", type=event_or_position, metavar="EVENT_ID")
@click.option("--service", type=click.Choice(service_names()), help="Ask only this service.  [default: all]")
@session_options
def show(session: Session, event: str, service: str | None) -> None:
    """Show a dead or parked event: why it failed, its record, history and order, and what waits behind it.

    EVENT_ID is the event's id (several services may have given it up) or, with --service, its position in that
    service's list. For an event that no longer waits, shows what became of it.

    \b
    orderflow dlt show 8ec9495d-610d-5954-a202-3d44caf9480b
    orderflow dlt show 17 --service inventory --json | jq .letters[0].value
    """
    require_service((event,), service)
    answers = ask(session, lambda client: read_details(client, event), service)
    found = {name: (each, _order(session, each)) for name, each in answers.found.items() if each is not None}
    past = {} if found else _past(session, event, answers.found)
    if session.out.as_json:
        _document(session, found, past, answers.away)
    else:
        for name, shown in found.items():
            session.out.show(*views.details(name, *shown))
        for name, history in past.items():
            session.out.show(text(views.end(name, history), "bold"))
            session.out.show(*views.history(history), "")
        session.out.show(*answers.sentences())
    if not found and not past:
        require_found(event, answers)
    answers.require_all()


def _document(
    session: Session,
    found: Mapping[str, tuple[DeadLetterDetails, Any]],
    past: Mapping[str, Sequence[HistoryEntry]],
    away: Mapping[str, str],
) -> None:
    letters = [{**of_service(name, each), "order": order} for name, (each, order) in found.items()]
    ended = [{"service": name, "history": to_builtins(history)} for name, history in past.items()]
    session.out.document({"letters": letters, "past": ended, "unreachable": away})


def _past(session: Session, event: str, services: Iterable[str]) -> Mapping[str, Sequence[HistoryEntry]]:
    """By service, the history of an event that waits there no longer."""
    answers = ask(session, lambda client: client.read(list[HistoryEntry], f"{PATH}/{event}/history"), services)
    return {name: history for name, history in answers.found.items() if history is not None}


def _order(session: Session, shown: DeadLetterDetails) -> Any:
    """The order itself; None where its service does not answer, or knows no such order."""
    key = shown.letter.key
    if not is_id(key):
        return None
    try:
        with session.client("order") as client:
            return client.get(f"/orders/{key}")
    except CliError:
        return None


@click.command()
@service_option
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Maximum number to show.")
@session_options
def log(session: Session, service: str | None, limit: int) -> None:
    """Show what operators did, latest first: who, when, what, to which event or replay, why, with what result.

    \b
    orderflow dlt log
    orderflow dlt log --service payment --json | jq -r '.actions[] | [.at, .who, .action, .reason] | @tsv'
    """
    answers = ask(
        session, lambda client: client.read(list[OperatorAction], "/ops/actions", {"limit": limit}), service
    )
    found = sorted(answers.each(), key=lambda each: each[1].at, reverse=True)[:limit]
    parts = views.actions(found) if found else ["Nothing was done yet."]
    session.answer(answers, {"actions": [of_service(*each) for each in found]}, parts)
