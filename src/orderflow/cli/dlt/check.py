"""`orderflow dlt check`: a gate for deployments. It reads the databases themselves, of whichever release they are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import click

from orderflow.cli.dlt.views import name_of, order_of, short
from orderflow.cli.errors import ExitCode, UnreachableError
from orderflow.cli.output import text, words
from orderflow.cli.session import Session, chosen_services, database_url, service_option, session_options
from orderflow.cli.tables import entry, heartbeat
from orderflow.core.envelopes import from_parked
from orderflow.core.failures import PERMANENT
from orderflow.core.identity import record_id
from orderflow.core.inbox import ParkedEvent, Waits
from orderflow.core.messages import Catalogue
from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.recovery import read_parked
from orderflow.core.postgres.sessions import connect, leave, translated
from orderflow.core.store import SchemaBehindError, StoreUnavailableError
from orderflow.registry import service_of
from orderflow.settings import Settings

PAGE = 500


@click.command()
@service_option
@click.option("--strict", is_flag=True, help="Also count events that are dead because they cannot be read.")
@session_options
def check(session: Session, service: str | None, strict: bool) -> None:
    """Check that this release can read every event that waits, dead or held, before you deploy it.

    Run it with the new release against the databases of the running one: it reads one table in each and changes
    nothing. Events that are dead because they cannot be read do not count, except with --strict.

    Exit code: 0 all can be read, 1 some cannot, 3 a database does not answer.

    \b
    orderflow dlt check
    orderflow dlt check --strict --json | jq '.unreadable[]'
    """
    found: dict[str, tuple[Counter[str], Sequence[Unreadable]]] = {}
    with heartbeat(lambda: f"{', '.join(found) or 'nothing'} checked so far", hidden=session.out.as_json):
        asyncio.run(_check(session.running, chosen_services(service), found))
    counted = [(name, each) for name, (_, each_of) in found.items() for each in each_of if strict or not each.known]
    waiting = sum((each for each, _ in found.values()), Counter[str]())
    if session.out.as_json:
        told = {"readable": not counted, "read": waiting.total(), "waiting": _plain(waiting)}
        session.out.document({**told, "unreadable": [{"service": name, **asdict(each)} for name, each in counted]})
    else:
        _show(session, waiting, counted)
    if counted:
        raise click.exceptions.Exit(ExitCode.FAILED)


async def _check(
    settings: Settings, services: Iterable[str], found: dict[str, tuple[Counter[str], Sequence[Unreadable]]]
) -> None:
    """By service how many events wait there, and which of them this release cannot read. Raises UnreachableError."""
    unread: list[Unreadable]
    for name in services:
        catalogue = service_of(name).catalogue
        counts, unread = Counter[str](), []
        try:
            async for page in read_waiting(database_url(settings, name)):
                counts.update(event.waits for _, event in page)
                unread += unreadable(page, catalogue)
        except (StoreUnavailableError, SchemaBehindError) as error:
            raise UnreachableError(f"The database of {name} cannot be checked: {error}") from error
        found[name] = counts, unread


def _plain(waiting: Mapping[str, int]) -> dict[str, int]:
    return {str(each): waiting[each] for each in Waits}


def _show(session: Session, waiting: Counter[str], unread: Sequence[tuple[str, Unreadable]]) -> None:
    if not unread:
        session.out.show(text(f"This release can read every event that waits ({words(waiting)}).", "green"))
        return
    of = f"{waiting.total()} events that wait ({words(waiting)})"
    session.out.show(text(f"This release cannot read {len(unread)} of {of}:", "bold red"))
    for name, each in unread:
        session.out.show(*entry(name_of(name, each), (order_of(each.key), text(short(each.reason), "red"))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A parked event that cannot be decoded, and why. `known`: it was given up as unreadable, and is as it came."""

    position: int
    consumer: str
    key: str
    event_id: str
    event_type: str
    reason: str
    known: bool


def unreadable(waiting: Iterable[tuple[str, ParkedEvent]], catalogue: Catalogue) -> Sequence[Unreadable]:
    """Those of what waits, each with its consumer, that a service with this catalogue cannot read."""
    found: list[Unreadable] = []
    for consumer, event in waiting:
        problem = from_parked(event, catalogue).problem
        if problem is not None:
            found.append(
                Unreadable(
                    position=event.position,
                    consumer=consumer,
                    key=event.key,
                    event_id=str(event.event_id),
                    event_type=event.event_type,
                    reason=problem.detail,
                    known=_was_unreadable(event),
                )
            )
    return found


def _was_unreadable(event: ParkedEvent) -> bool:
    """What could not be read is named by its place in the log, until it is edited."""
    record = event.record
    by_place = event.event_id == record_id(record.topic, record.partition, record.offset)
    return by_place and event.failure is not None and event.failure.kind == PERMANENT


async def read_waiting(url: str) -> AsyncIterator[Sequence[tuple[str, ParkedEvent]]]:
    """What waits in a database, each with its consumer: pages in order of position.

    Raises StoreUnavailableError, SchemaBehindError.
    """
    query = load_queries("orderflow.cli.dlt")["parked"]
    connection = await connect(url, application_name="orderflow dlt check", writable=False)
    try:
        after = 0
        while True:
            with translated(connection):
                rows = await connection.fetch(query, after, PAGE)
            if not rows:
                return
            yield [(row["consumer"], read_parked(row)) for row in rows]
            after = rows[-1]["position"]
    finally:
        await leave(connection)
