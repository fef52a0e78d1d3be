"""`orderflow order explain` and `orderflow stuck`: why an order is where it is."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from orderflow.cli.errors import CliError, ExitCode, NotFoundError, UnreachableError
from orderflow.cli.http import AnswerLostError
from orderflow.cli.output import joined, text
from orderflow.cli.session import Session, session_options
from orderflow.cli.tables import duration, heartbeat, moment, table
from orderflow.cli.values import order_id
from orderflow.diagnosis.side_by_side import side_by_side
from orderflow.registry import service_names, service_of
from orderflow.settings import Settings

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orderflow.diagnosis.causes import Cause, Explanation
    from orderflow.diagnosis.evidence import Ask, KeyEvidence, ServiceEvidence, Subscriber

NOT_READY = 503
PAGE = 100
LAST_WORDS_BYTES = 16_384
LAST_WORDS = frozenset({"cannot-run", "process-failed"})
PATIENCE_S = 3.0
"""A service that takes longer than its own checks of what it needs is told to hang."""


@click.command()
@click.argument("order_id", metavar="ORDER_ID", type=order_id)
@session_options
def explain(session: Session, order_id: str) -> None:
    """Explain an order: what happened, what comes next, which service owes it, and what holds it up.

    Asks every service what it knows about the order: what came in, what waits to go out, what failed, what the bank
    was asked. A service that does not answer is listed as a cause. The trace is the one that the order's events
    carry: look it up where ORDERFLOW_OTLP_ENDPOINT sends traces.

    Exit code: 0 it has ended or is on its way, 1 something holds it up.

    \b
    orderflow order explain 01981c5e-7a40-7000-8000-0123456789ab
    orderflow order explain "$ID" --json | jq -r '.causes[0].why'
    """
    from msgspec import to_builtins
    from msgspec.structs import replace

    from orderflow.diagnosis.evidence import consumers_of

    ask, names = asking(session), service_names()
    trace = _Trace(session.running, order_id)
    found = _explained(ask, _services(session, ask, names), consumers_of(map(service_of, names)), order_id)
    found = replace(found, trace_id=trace.wait())
    session.out.answer(to_builtins(found), _parts(found))
    if found.causes:
        raise click.exceptions.Exit(ExitCode.FAILED)


@click.command()
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=200, show_default=True, help="How many orders to look at."
)
@session_options
def stuck(session: Session, limit: int) -> None:
    """Show the orders that are past their usual time, grouped by what holds them up.

    Looks at the oldest orders that have not ended. If the order service does not answer, only that is reported.

    Exit code: 0 no order is stuck, 1 some are.

    \b
    orderflow stuck
    orderflow stuck --json | jq '.groups[] | {why: .cause.why, orders: (.orders | length)}'
    """
    from msgspec import to_builtins

    from orderflow.diagnosis.causes import causes_of_silence
    from orderflow.diagnosis.evidence import consumers_of

    ask, names = asking(session), service_names()
    services, consumers = _services(session, ask, names), consumers_of(map(service_of, names))
    groups: dict[tuple[str, str, str], tuple[Cause, list[str]]] = {}
    looked_at = 0
    with heartbeat(lambda: f"{looked_at} orders looked at", hidden=session.out.as_json):
        for each in _unfinished(ask, services, limit):
            found = _explained(ask, services, consumers, each)
            looked_at += 1
            for cause in found.causes[:1]:
                name = (cause.kind.value, cause.service, cause.component)
                groups.setdefault(name, (cause, []))[1].append(found.order_id)
    ordered = sorted(groups.values(), key=lambda group: -len(group[1]))
    if not looked_at:
        ordered = [(cause, []) for cause in causes_of_silence(services["order"])[:1]]
    listed = [{"cause": to_builtins(cause), "orders": orders} for cause, orders in ordered]
    session.out.answer({"looked_at": looked_at, "groups": listed}, _groups(ordered))
    if ordered:
        raise click.exceptions.Exit(ExitCode.FAILED)


def asking(session: Session) -> Ask:
    """By way of the clients of this home. NotFoundError is raised as it is."""
    from orderflow.diagnosis.evidence import NoAnswerError

    def ask(service: str, path: str) -> Any:
        try:
            with session.client(service, timeout_s=PATIENCE_S) as client:
                if path == "/metrics":
                    return client.text(path)
                return client.ask("GET", path, good=(NOT_READY,) if path.startswith("/health") else ()).body
        except NotFoundError:
            raise
        except AnswerLostError as error:
            raise NoAnswerError(str(error), silent=True) from error
        except CliError as error:
            raise NoAnswerError(str(error)) from error

    return ask


def _services(session: Session, ask: Ask, names: Sequence[str]) -> Mapping[str, ServiceEvidence]:
    from dataclasses import replace

    from orderflow.diagnosis.evidence import ask_service

    found = side_by_side(lambda name: ask_service(ask, name), names)
    if all(each.away for each in found):
        raise UnreachableError(found[0].away)
    logs = session.given.home / "logs"
    return {
        each.name: replace(each, last_words=last_words(logs / f"{each.name}.log")) if each.away else each
        for each in found
    }


def last_words(log: Path) -> str:
    """Why a process of a service has ended, if that is the last thing that its log on this machine says."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
            *_, line = file.read().splitlines()
        said = json.loads(line)
    except (OSError, ValueError):
        return ""
    is_last = isinstance(said, dict) and said.get("action") in LAST_WORDS
    return str(said.get("error", "")) if is_last else ""


def _keys(ask: Ask, services: Mapping[str, ServiceEvidence], order_id: str) -> Mapping[str, KeyEvidence]:
    """Who is away need not be asked again."""
    from orderflow.diagnosis.evidence import KeyEvidence, ask_key

    there = [name for name, each in services.items() if not each.away]
    found = dict(zip(there, side_by_side(lambda name: ask_key(ask, name, order_id), there), strict=True))
    return {name: found.get(name, KeyEvidence()) for name in services}


def _explained(
    ask: Ask, services: Mapping[str, ServiceEvidence], consumers: Sequence[Subscriber], order_id: str
) -> Explanation:
    """What each service says of itself is asked once, however many orders are explained by it."""
    from orderflow.diagnosis.causes import explain as explained
    from orderflow.diagnosis.evidence import Observations, ask_order

    order, keys = ask_order(ask, order_id), _keys(ask, services, order_id)
    evidence = Observations(order_id=order_id, order=order, services=services, keys=keys)
    return explained(evidence, consumers, datetime.now(UTC))


class _Trace:
    """Looks for the trace of an order in the topics while the services are asked. It does so in a thread: a log that
    is away or hangs keeps nobody from being told why the order is stuck.
    """

    def __init__(self, running: Settings, order_id: str) -> None:
        self._found = ""
        self._thread = threading.Thread(target=self._look, args=(running, UUID(order_id)), daemon=True)
        self._thread.start()

    def wait(self) -> str:
        """ "" where there is none, or the log does not tell in time."""
        self._thread.join(PATIENCE_S)
        return self._found

    def _look(self, running: Settings, order_id: UUID) -> None:
        import asyncio

        from orderflow.cli.topic import open_log
        from orderflow.diagnosis.topics import trace_of

        with suppress(Exception):
            self._found = asyncio.run(trace_of(lambda: open_log(running), order_id))


def _unfinished(ask: Ask, services: Mapping[str, ServiceEvidence], limit: int) -> Iterator[str]:
    """The ids of the oldest; none of a service that does not answer."""
    from orderflow.diagnosis.evidence import NoAnswerError

    cursor: str | None = ""
    while cursor is not None and limit > 0 and not services["order"].away:
        after = f"&cursor={cursor}" if cursor else ""
        try:
            page = ask("order", f"/orders?unfinished=true&limit={min(PAGE, limit)}{after}")
        except NoAnswerError:
            return
        yield from (order["id"] for order in page["orders"])
        limit -= len(page["orders"])
        cursor = page["next"]


def _parts(found: Explanation) -> Iterator[RenderableType]:
    age = duration(found.age_s * 1000)
    yield joined(text("Order "), text(found.order_id, "bold"), text(f"  {found.status}, placed {age} ago"))
    if found.trace_id:
        yield text(f"Trace {found.trace_id}")
    if found.timeline:
        start = found.timeline[0].at
        lines = [
            (moment(mark.at), duration((mark.at - start).total_seconds() * 1000), mark.service, mark.what)
            for mark in found.timeline
        ]
        yield ""
        yield table(("time", "after", "service", "what"), lines, right=("after",), drop=("time",))
    yield ""
    if not found.expected and not found.causes:
        yield text("Nothing more is expected.", "green")
        return
    if found.expected:
        usual = "no usual time is known yet"
        if found.usual_s is not None and found.usual_half_s is not None:
            half, most = (duration(each * 1000) for each in (found.usual_half_s, found.usual_s))
            usual = f"half of all orders are past it {half} after they are placed, 99 of 100 after {most}"
        late = "late" if found.is_late else "in time"
        yield text(f"Next: {found.expected}. Waits for {duration(found.waited_s * 1000)} ({late}; {usual}).", "bold")
    for number, cause in enumerate(found.causes, start=1):
        yield joined(text(f"  {number}. {_place(cause)}: ", "red"), text(cause.why))
        yield text(f"     see: {cause.command}", "dim")
    if not found.causes:
        yield text("  It is on its way.", "green")


def _groups(groups: Sequence[tuple[Cause, Sequence[str]]]) -> Iterator[RenderableType]:
    if not groups:
        yield text("No order is past its usual time.", "green")
        return
    for cause, orders in groups:
        count = "all orders" if not orders else "1 order" if len(orders) == 1 else f"{len(orders)} orders"
        yield joined(text(f"{count:>12}  ", "bold"), text(f"{_place(cause)}: ", "red"), text(cause.why))
        oldest = f"; the oldest: orderflow order explain {orders[0]}" if orders else ""
        yield text(f"{'':>12}  see: {cause.command}{oldest}", "dim")


def _place(cause: Cause) -> str:
    return f"{cause.service}, {cause.component}" if cause.component else cause.service
