"""`orderflow dlt check`: a gate for deployments."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from orderflow.cli.errors import ExitCode, UnreachableError
from orderflow.cli.session import Session, session_options
from orderflow.registry import service_names

if TYPE_CHECKING:
    from orderflow.messaging.recovery.readability import Unreadable
    from orderflow.settings import Settings


@click.command()
@click.option("--service", type=click.Choice(service_names()), help="Only at this one.  [default: all]")
@click.option("--strict", is_flag=True, help="Count events too that are dead because they cannot be read.")
@session_options
def check(session: Session, service: str | None, strict: bool) -> None:
    """Check that this release can read every event that waits, dead or held, before it is deployed.

    Run it with the new release against the databases of the running one: it reads one table of each and
    changes nothing. Events that were given up because nobody could read them do not count, unless --strict.

    Exit code: 0 all can be read, 1 some cannot, 3 a database does not answer.

    \b
    orderflow dlt check
    orderflow dlt check --strict --json | jq '.unreadable[]'
    """
    from dataclasses import asdict

    from orderflow.cli.bars import heartbeat

    found: dict[str, tuple[Counter[str], Sequence[Unreadable]]] = {}
    with heartbeat(lambda: f"{', '.join(found) or 'nothing'} checked so far", hidden=session.out.as_json):
        asyncio.run(_check(session.running, (service,) if service else service_names(), found))
    counted = [
        {"service": name, **asdict(each)}
        for name, (_, each_of) in found.items()
        for each in each_of
        if strict or not each.known
    ]
    waiting = sum((each for each, _ in found.values()), Counter[str]())
    if session.out.as_json:
        told = {"readable": not counted, "read": waiting.total(), "waiting": _plain(waiting)}
        session.out.document({**told, "unreadable": counted})
    else:
        _show(session, waiting, counted)
    if counted:
        raise click.exceptions.Exit(ExitCode.FAILED)


async def _check(
    settings: Settings, services: Sequence[str], found: dict[str, tuple[Counter[str], Sequence[Unreadable]]]
) -> None:
    """By service how many events wait there, and which of them this release cannot read. Raises UnreachableError."""
    from orderflow.cli.dlt.waiting import read_waiting
    from orderflow.cli.running import database_url
    from orderflow.messaging.recovery.readability import unreadable
    from orderflow.messaging.store import SchemaBehindError, StoreUnavailableError
    from orderflow.registry import service_of

    unread: list[Unreadable]
    for name in services:
        catalogue = service_of(name).catalogue
        counts, unread = Counter[str](), []
        try:
            async for page in read_waiting(database_url(settings, name)):
                counts.update(letter.event.waits for letter in page)
                unread += unreadable(page, catalogue)
        except (StoreUnavailableError, SchemaBehindError) as error:
            raise UnreachableError(f"The database of {name} cannot be checked: {error}") from error
        found[name] = counts, unread


def _plain(waiting: Mapping[str, int]) -> dict[str, int]:
    from orderflow.messaging.inbox import Waits

    return {str(each): waiting[each] for each in Waits}


def _show(session: Session, waiting: Counter[str], unread: Sequence[Mapping[str, object]]) -> None:
    from orderflow.cli.counts import words
    from orderflow.cli.dlt.entries import entry
    from orderflow.cli.dlt.letter_view import name_of, order_of, short
    from orderflow.cli.output import text

    if not unread:
        session.out.show(text(f"This release can read every event that waits ({words(waiting)}).", "green"))
        return
    of = f"{waiting.total()} events that wait ({words(waiting)})"
    session.out.show(text(f"This release cannot read {len(unread)} of {of}:", "bold red"))
    for each in unread:
        session.out.show(*entry(name_of(each), (order_of(each), text(short(str(each["reason"])), "red"))))
