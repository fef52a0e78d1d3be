"""An audit of databases that are in use.

What is found while orders are under way may be no more than a moment's state. So whatever is suspicious is looked at
again, once everything that was under way at the first look has been handled: an order of which nothing has changed
since is one that nobody is going to take further, and what is found of it is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from uuid import UUID

from orderflow.audit.books import OrderBooks
from orderflow.audit.collect import (
    LONG_S,
    LOOK_EVERY_S,
    Collector,
    Databases,
    Ledgers,
    Look,
    Mark,
    ledgers,
    look,
    mark,
    opened,
    wait_for_rest,
)
from orderflow.audit.findings import Finding, Kind, Report
from orderflow.audit.orders import check_order
from orderflow.audit.promises import check_stock
from orderflow.audit.sieve import Sieve
from orderflow.audit.topics import Ends, check_topics, ends_of
from orderflow.core.transport import Transport
from orderflow.events.base import order_id_of

ROUNDS = 3
"""How often an order that keeps changing is looked at again."""
GRACE_S = 10.0
"""How long what is under way may take to be handled, at least."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a look goes over: the orders placed after the id `after`, and those of `also`; None: all. `topics`: the
    topics, too.
    """

    after: UUID | None = None
    also: frozenset[str] = frozenset()
    topics: bool = True


ALL = Scope()


@dataclass(slots=True)
class Suspects:
    """Orders that something was found of, as they were at one look, and what has to be handled until the next."""

    books: dict[str, OrderBooks] = field(default_factory=dict)
    said: dict[str, list[Finding]] = field(default_factory=dict)
    mark: Mark = field(default_factory=Mark)


async def audit(
    urls: Mapping[str, str],
    transport: Transport,
    *,
    wait_s: float,
    accepted: Iterable[str] = (),
    notify: Callable[[Look], None] = lambda _: None,
    scope: Scope = ALL,
) -> Report:
    """Check the five promises over the databases at `urls` (the services by name, and `bank`), and over the topics.

    Waits up to `wait_s` for rest; when there is none, `Report.at_rest` is False, and of orders that are under way
    only what holds at every moment is told. `accepted` are ids of orders that were answered with 2xx. What is under
    way goes to `notify`. Raises StoreUnavailableError, SchemaBehindError, TransportUnavailableError,
    TopicMissingError.
    """
    async with opened(urls) as databases:
        rest = await wait_for_rest(databases, transport, wait_s, notify)
        return await Audit(databases, transport, wait_s, scope).run(rest, list(accepted))


class Audit:
    """One audit. Not used twice."""

    def __init__(self, databases: Databases, transport: Transport, wait_s: float, scope: Scope) -> None:
        self._databases = databases
        self._transport = transport
        self._wait_s = max(wait_s, GRACE_S)
        self._scope = scope
        self._report = Report(at_rest=False)

    async def run(self, rest: Look, accepted: Collection[str]) -> Report:
        """`rest` is the look before."""
        report, databases = self._report, self._databases
        before = await ends_of(self._transport) if self._scope.topics else {}
        async with databases.snapshots():
            # What has moved since is seen by a second look from within the snapshots.
            report.at_rest = rest.is_quiet and await look(databases, self._transport) == rest
            began = time.monotonic()
            kept = await ledgers(databases)
            suspects = await self._judge(await self._suspects(kept), kept)
            report.took_s = time.monotonic() - began
            await self._rest_of_the_books(accepted, before)
            suspects.mark = await mark(databases, self._transport)
        if not report.at_rest:
            await self._look_again(suspects)
        return report

    async def _suspects(self, kept: Ledgers) -> set[str]:
        report = self._report
        for row in await self._databases.ask("order", "statuses"):
            report.statuses[row["status"]] = row["orders"]
        report.orders = sum(report.statuses.values())
        found = await Sieve(self._databases, kept).suspects(report.orders, self._scope.after)
        report.suspects = frozenset(found | self._scope.also)
        return found | self._scope.also

    async def _judge(self, keys: Collection[str], kept: Ledgers) -> Suspects:
        """At rest what is found is told; otherwise it is suspected."""
        report, suspects = self._report, Suspects()
        async for books in Collector(self._databases, kept).orders(keys):
            report.judged += 1
            # A foreign record can wait under a key that is no order's.
            report.stuck += books.is_stuck and order_id_of(books.order_id) is not None
            report.refunded_by_word += books.is_refunded_by_word
            if report.at_rest:
                report.add(check_order(books, at_rest=True))
            else:
                _suspect(suspects, books)
        return suspects

    async def _rest_of_the_books(self, accepted: Collection[str], before: Ends) -> None:
        """Stock, outboxes, topics, and whom a client was promised an order."""
        report, databases = self._report, self._databases
        collector = Collector(databases, Ledgers())
        for stock in await collector.stock():
            report.add(check_stock(stock))
        report.waiting = await collector.waiting()
        report.add(await self._absent(accepted))
        for service in databases.services:
            for row in await databases.ask(service, "unsent", LONG_S):
                report.add(_unsent(service, row["unsent"], row["gone"], row["since"]))
        if self._scope.topics:
            topics = await check_topics(databases, self._transport, before)
            report.records = topics.records
            report.add(topics.findings)

    async def _absent(self, accepted: Collection[str]) -> list[Finding]:
        ids = [order_id for key in accepted if (order_id := order_id_of(key)) is not None]
        absent = {str(row["order_id"]) for row in await self._databases.ask("order", "absent", ids)}
        absent |= {key for key in accepted if order_id_of(key) is None}
        return [Finding(Kind.ORDER_MISSING, key, "an order", "none", "order") for key in sorted(absent)]

    async def _look_again(self, suspects: Suspects) -> None:
        """Tell what lasts. What keeps changing is under way."""
        for _ in range(ROUNDS):
            if not suspects.books:
                return
            handled = await self._wait_for(suspects.mark)
            async with self._databases.snapshots():
                suspects = await self._confirm(suspects, handled=handled)
                suspects.mark = await mark(self._databases, self._transport)
        self._report.under_way += len(suspects.books)

    async def _confirm(self, before: Suspects, *, handled: bool) -> Suspects:
        """What was the same twice is told; the rest is looked at once more."""
        again = Suspects()
        collector = Collector(self._databases, await ledgers(self._databases))
        async for books in collector.orders(before.books):
            lasting = handled and books == before.books[books.order_id] and not books.is_under_way
            if lasting:
                self._report.add(check_order(books, at_rest=True))
                continue
            now = list(check_order(books, at_rest=False))
            said = {_same(finding) for finding in before.said[books.order_id]}
            self._report.add(finding for finding in now if _same(finding) in said)
            told = {_same(finding) for finding in now} & said
            if not told:
                _suspect(again, books)
        return again

    async def _wait_for(self, mark_before: Mark) -> bool:
        """Until all that was under way has been handled; False if the time was up before."""
        deadline = time.monotonic() + self._wait_s
        while not (passed := await mark_before.is_passed(self._databases, self._transport)):
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        return passed


def _suspect(suspects: Suspects, books: OrderBooks) -> None:
    """Keep the order if anything is found of it, or would be if nothing were under way."""
    if any(check_order(books, at_rest=True)):
        suspects.books[books.order_id] = books
        suspects.said[books.order_id] = list(check_order(books, at_rest=False))


def _same(finding: Finding) -> tuple[Kind, str, str]:
    return finding.kind, finding.expected, finding.found


def _unsent(service: str, unsent: int, gone: int, since: datetime | None) -> Iterable[Finding]:
    told = partial(Finding, subject=service, where=service)
    if gone:
        yield told(Kind.EVENT_NEVER_SENT, expected="the events that are to be sent", found=f"{gone} are gone")
    if unsent - gone:
        found = f"{unsent - gone} for more than {LONG_S} s"
        yield told(Kind.EVENT_UNSENT, expected="none", found=found, since=since)
