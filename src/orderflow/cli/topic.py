"""`orderflow topic`: read the events on a topic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.session import Session, session_options

if TYPE_CHECKING:
    from orderflow.cli.tailing import Start

LAST = 10


@click.group()
def topic() -> None:
    """Read the events on a topic.

    The topics: order-events, payment-status, inventory-status, flow-status, and for each of
    them TOPIC.DLT with what consumers have given up.

    \b
    orderflow topic tail order-events -f
    orderflow topic tail payment-status --key 01981c5e-7a40-7000-8000-0123456789ab
    """


def start_of(value: Any) -> str | int | None:
    """`earliest`, `latest` or an offset. Raises click.BadParameter."""
    if value is None or value in {"earliest", "latest"}:
        return value  # type: ignore[no-any-return]
    if str(value).isascii() and str(value).isdigit() and len(str(value)) <= 18:
        return int(value)
    raise click.BadParameter(f"{value!r} is no place to start. Wanted: earliest, latest, or an offset such as 120")


@topic.command()
@click.argument("topic_name", metavar="TOPIC")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is appended, until Ctrl-C.")
@click.option(
    "--from",
    "start",
    type=start_of,
    metavar="earliest|latest|OFFSET",
    help=f"Where to start in each partition.  [default: the last {LAST} records; with --key: earliest]",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    help="So many records, and no more; with -f and without --from: begin with so many.",
)
@click.option("--key", help="Only records of this key, which is an order's id; its last digits will do.")
@click.option("--full", is_flag=True, help="All of each record: attributes, headers and value.  [default: a line]")
@session_options
def tail(
    session: Session,
    topic_name: str,
    follow: bool,
    start: str | int | None,
    limit: int | None,
    key: str | None,
    full: bool,
) -> None:
    """Show a topic's records in order of time, a line each, or all of them with --full.

    Nothing is consumed: no group's offset moves. With --json a line for each record, with all that is in it.

    \b
    orderflow topic tail order-events
    orderflow topic tail order-events --from earliest --limit 5 --full
    orderflow topic tail flow-status -f
    orderflow topic tail payment-status --key "$ID" --json | jq .attributes.type
    """
    asyncio.run(_tail(session, topic_name, follow, start, limit, key, full))


async def _tail(
    session: Session,
    name: str,
    follow: bool,
    start: str | int | None,
    limit: int | None,
    key: str | None,
    full: bool,
) -> None:
    from orderflow.cli import record_view, tailing
    from orderflow.cli.log_access import open_log
    from orderflow.messaging.transport import TopicMissingError

    is_wanted = _of_key(key)
    last = (limit or LAST) if start is None and key is None else None
    shown = 0
    async with open_log(session.running) as log:
        try:
            spans = await tailing.spans(log, name, _start(start, last))
        except TopicMissingError:
            raise _no_topic(name) from None
        if last is not None:
            spans = await tailing.last_of(log, name, spans, last)
        records = (tailing.followed if follow else tailing.merged)(log, name, spans)
        async for record in records:
            if not is_wanted(record.key):
                continue
            if session.out.as_json:
                session.out.line(record_view.document(record))
            else:
                session.out.show(*(record_view.parts if full else record_view.line)(record))
            shown += 1
            if shown == limit and not (follow and last is not None):
                return
    if not shown and not session.out.as_json:
        session.out.show("No such records.")


def _of_key(key: str | None) -> Callable[[bytes | None], bool]:
    """Whether a record's key is the one that is wanted, or ends as it does."""
    from orderflow.cli.short_ids import digits, ends_with
    from orderflow.cli.values import is_id

    if key is None:
        return lambda _: True
    whole, end = key.encode("utf-8", "surrogateescape"), digits(key)
    if end is None or is_id(key):
        return lambda found: found == whole
    return lambda found: found is not None and (found == whole or ends_with(found.decode(errors="replace"), end))


def _start(start: str | int | None, last: int | None) -> Start:
    if last is not None:
        return lambda _, end: end - last
    if start == "latest":
        return lambda _, end: end
    if isinstance(start, int):
        return lambda first, end: start
    return lambda first, _: first


def _no_topic(name: str) -> Exception:
    from orderflow.cli.errors import NotFoundError
    from orderflow.local.services import definitions

    services = definitions().values()
    known = ", ".join(dict.fromkeys(topic for service in services for topic in service.publishes))
    return NotFoundError(
        f"There is no topic {name!r}. The topics are: {known}, and each of them with .DLT at its end"
    )
