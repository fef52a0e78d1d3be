"""`orderflow topic`: read the events on a topic, and those that are added, without a consumer group."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.errors import CliError, NotFoundError, UnreachableError
from orderflow.cli.lazy import Group
from orderflow.cli.output import block, joined, pause, text
from orderflow.cli.session import Session, database_url, session_options
from orderflow.cli.tables import TIME, Forms, OneLine, clock_of_ms, ident, moment_of_ms
from orderflow.cli.values import digits, ends_with, is_id
from orderflow.core.store import SchemaBehindError
from orderflow.core.transport import ConsumerRecord, Transport, TransportUnavailableError
from orderflow.settings import Settings

NEVER_S = 1e9


@asynccontextmanager
async def open_log(settings: Settings) -> AsyncIterator[Transport]:
    """The log that the settings name, closed at the end. Raises UnreachableError, SettingsError, CliError."""
    import asyncpg

    from orderflow.runtime.wiring import named

    transport = named(await _connect(settings), settings)
    try:
        yield transport
    except TransportUnavailableError as error:
        raise UnreachableError(
            f"{_where(settings)} does not answer: {error}. Is it running? "
            f"Start everything with: {settings.command('up')}"
        ) from error
    except (SchemaBehindError, asyncpg.PostgresError) as error:
        raise CliError(
            f"{_where(settings)} cannot be read: {error}. If its tables are missing, run: orderflow migrate"
        ) from error
    finally:
        await transport.close()


async def _connect(settings: Settings) -> Transport:
    if settings.transport == "kafka":
        from orderflow.core.kafka import KafkaTransport
        from orderflow.runtime.wiring import kafka_security

        return await KafkaTransport.connect(
            settings.kafka_bootstrap, security=kafka_security(settings, None).options()
        )
    from orderflow.core.postgres_log import PostgresLogTransport

    # Who only reads does not tidy up.
    return await PostgresLogTransport.connect(
        database_url(settings, "log"), maintenance_every_s=NEVER_S, writable=False
    )


def _where(settings: Settings) -> str:
    if settings.transport == "kafka":
        return f"Kafka at {settings.kafka_bootstrap}"
    return "The event log in PostgreSQL"


if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

ATTRIBUTE = "ce_"
BRIEF_MAX = 1000
NAME_MAX = 160
EVENT_TYPE = re.compile(r"orderflow\.([A-Za-z]+)(?:\.v\d+)?")


class _NoJsonError(ValueError):
    """Bytes that are no JSON document."""


def document(record: ConsumerRecord) -> dict[str, Any]:
    """`attributes` are those of CloudEvents; a value that is no JSON is given as `value_base64`."""
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    headers = [(name, _header_text(value)) for name, value in record.headers]
    return {
        **place,
        "timestamp_ms": record.timestamp,
        "key": None if record.key is None else _header_text(record.key),
        "attributes": {name.removeprefix(ATTRIBUTE): value for name, value in headers if _is_attribute(name)},
        "headers": {name: value for name, value in headers if not _is_attribute(name)},
        **_value(record.value),
    }


def line(record: ConsumerRecord) -> Iterator[RenderableType]:
    """All that fits one line: when, what, whose, where, and the beginning of its value."""
    shown = document(record)
    event_type = (shown["attributes"].get("type") or "(no type)")[:NAME_MAX]
    named = EVENT_TYPE.fullmatch(event_type)
    yield OneLine(
        Forms(text(moment_of_ms(record.timestamp)), text(clock_of_ms(record.timestamp)), TIME),
        text(named[1] if named else event_type, "bold cyan"),
        ident("(no key)" if shown["key"] is None else shown["key"][:NAME_MAX], "bold"),
        text(f"{record.partition}@{record.offset}", "dim"),
        text(_brief(shown), "dim"),
    )


def _brief(shown: Mapping[str, Any]) -> str:
    """Its value as JSON on one line; so many characters are more than any line has."""
    if "value" not in shown:
        return f"base64 {shown['value_base64'][:BRIEF_MAX]}"
    return "(no value)" if shown["value"] is None else json.dumps(shown["value"], ensure_ascii=False)[:BRIEF_MAX]


def parts(record: ConsumerRecord) -> Iterator[RenderableType]:
    """A line on what it is and where it stands, its attributes and headers, its value."""
    shown = document(record)
    attributes = shown["attributes"]
    yield joined(
        text(f"{moment_of_ms(record.timestamp)}  "),
        text(attributes.get("type") or "(no type)", "bold cyan"),
        text(f"  {shown['key']}", "bold"),
        text(f"  {record.topic}/{record.partition}@{record.offset}", "dim"),
    )
    told = {name: value for name, value in attributes.items() if name not in {"type", "subject", "specversion"}}
    for name, value in [*told.items(), *shown["headers"].items()]:
        yield joined(text(f"  {name}: ", "dim"), text(value, "dim"))
    yield value_text(record.value)
    yield ""


def value_text(value: bytes | None) -> Text:
    """JSON set out in lines and colours; text as text; other bytes in base64."""
    if value is None:
        return text("  (no value)", "dim")
    try:
        return pretty_json(_parse(value))
    except _NoJsonError:
        pass
    try:
        return block(value.decode())
    except UnicodeDecodeError:
        return joined(text("  base64: ", "dim"), text(b64encode(value).decode()))


def pretty_json(value: Any) -> Text:
    """Set out in lines and colours."""
    from rich.highlighter import JSONHighlighter

    shown = block(json.dumps(value, indent=2, ensure_ascii=False))
    JSONHighlighter().highlight(shown)
    return shown


def _value(value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {"value": None}
    try:
        return {"value": _parse(value)}
    except _NoJsonError:
        return {"value_base64": b64encode(value).decode()}


def _parse(value: bytes) -> Any:
    try:
        return json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _NoJsonError from error


def _refuse(constant: str) -> Any:
    raise _NoJsonError(constant)


def _is_attribute(name: str) -> bool:
    return name.startswith(ATTRIBUTE)


def _header_text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")


LAST = 10
CHUNK = 500
LOOK_EVERY_S = 0.2
Span = tuple[int, int]
Start = Callable[[int, int], int]


@click.group(cls=Group)
def topic() -> None:
    """Read the events on a topic.

    The topics: order-events, payment-status, inventory-status, flow-status, and for each of them TOPIC.DLT with the
    events that consumers gave up.

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
    raise click.BadParameter(
        f"{value!r} is not a place to start. Expected: earliest, latest, or an offset such as 120"
    )


@topic.command()
@click.argument("topic_name", metavar="TOPIC")
@click.option("-f", "--follow", is_flag=True, help="Keep showing new records, until Ctrl-C.")
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
    help="Show at most this many records; with -f and no --from, start with this many.",
)
@click.option("--key", help="Only records with this key, an order's id; its last digits are enough.")
@click.option(
    "--full", is_flag=True, help="Show each record in full: attributes, headers and value.  [default: one line]"
)
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
    """Show a topic's records by time, one line each, or in full with --full.

    Nothing is consumed: no group's offset moves. With --json, one line per record, with everything in it.

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
    from orderflow.core.transport import TopicMissingError

    is_wanted = _of_key(key)
    last = (limit or LAST) if start is None and key is None else None
    shown = 0
    async with open_log(session.running) as log:
        try:
            found = await spans(log, name, _start(start, last))
        except TopicMissingError:
            raise _no_topic(name) from None
        if last is not None:
            found = await last_of(log, name, found, last)
        records = (followed if follow else merged)(log, name, found)
        async for record in records:
            if not is_wanted(record.key):
                continue
            if session.out.as_json:
                session.out.line(document(record))
            else:
                session.out.show(*(parts if full else line)(record))
            shown += 1
            if shown == limit and not (follow and last is not None):
                return
    if not shown and not session.out.as_json:
        session.out.show("No matching records.")


def _of_key(key: str | None) -> Callable[[bytes | None], bool]:
    """Whether a record's key is the one that is wanted, or ends as it does."""
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
    from orderflow.local.services import definitions

    services = definitions().values()
    known = ", ".join(dict.fromkeys(topic for service in services for topic in service.publishes))
    return NotFoundError(
        f"There is no topic {name!r}. The topics are: {known}, and each of them with .DLT at its end"
    )


async def spans(transport: Transport, topic: str, start: Start) -> dict[int, Span]:
    """For each partition: where to start, and where it ends now.

    A key is looked for in all of them: it moves to another when partitions are added to a topic.
    `start` gets the first offset kept and the end. Raises TopicMissingError, TransportUnavailableError.
    """
    ends = {partition: span for (_, partition), span in (await transport.ends([topic])).items()}
    return {partition: (min(end, max(first, start(first, end))), end) for partition, (first, end) in ends.items()}


async def last_of(transport: Transport, topic: str, wanted: Mapping[int, Span], count: int) -> dict[int, Span]:
    """The spans narrowed to the `count` records that are last in time over all partitions."""
    records = [record async for record in merged(transport, topic, wanted)]
    narrowed = {partition: (end, end) for partition, (_, end) in wanted.items()}
    for record in reversed(records[-count:]):
        narrowed[record.partition] = (record.offset, wanted[record.partition][1])
    return narrowed


async def merged(transport: Transport, topic: str, wanted: Mapping[int, Span]) -> AsyncIterator[ConsumerRecord]:
    """All records of the spans, by time of appending; in a partition by offset."""
    stretches = [_Stretch(transport, topic, partition, span) for partition, span in wanted.items()]
    await asyncio.gather(*(stretch.fill() for stretch in stretches))
    while stretches := [stretch for stretch in stretches if stretch.records]:
        next_one = min(stretches, key=lambda stretch: stretch.records[0].timestamp)
        yield next_one.records.popleft()
        if not next_one.records:
            await next_one.fill()


async def followed(
    transport: Transport, topic: str, wanted: Mapping[int, Span]
) -> AsyncGenerator[ConsumerRecord, None]:
    """The same, and then what is appended, for ever."""
    current = dict(wanted)
    while True:
        async for record in merged(transport, topic, current):
            yield record
        await asyncio.sleep(LOOK_EVERY_S)
        pause(0)
        ends = await transport.ends([topic])
        current = {
            # A partition that was added meanwhile is read from its first record.
            partition: (last, max(last, end))
            for (_, partition), (first, end) in ends.items()
            for last in [current[partition][1] if partition in current else first]
        }


class _Stretch:
    """What is left of one partition's span; `records` are read and not given out yet."""

    def __init__(self, transport: Transport, topic: str, partition: int, span: Span) -> None:
        self._transport = transport
        self._topic = topic
        self._partition = partition
        self._position, self._end = span
        self.records: deque[ConsumerRecord] = deque()

    async def fill(self) -> None:
        """Read on; `records` stays empty at the end of the span."""
        if self._position >= self._end:
            return
        limit = min(CHUNK, self._end - self._position)
        found = await self._transport.read(self._topic, self._partition, self._position, limit)
        self._position = found[-1].offset + 1 if found else self._end
        self.records.extend(record for record in found if record.offset < self._end)
