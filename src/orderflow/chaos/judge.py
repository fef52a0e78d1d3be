"""After the faults: wait for rest, then hold what the client saw against services, books and topics.

Every record of every topic is read from the beginning, as any other program would; what happens over time is
counted in slices of equal length.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx2

from orderflow.audit.collect import Databases, Look, audited, look, opened
from orderflow.audit.findings import Finding, Kind, Promise
from orderflow.audit.live import audit
from orderflow.chaos.client import (
    ADRIFT,
    CUSTOMER,
    DOUBLED,
    FAILED,
    INVALID,
    LOST,
    OK,
    REORDERED,
    STUCK,
    VERDICTS,
    Client,
    History,
    Placing,
    Violation,
)
from orderflow.chaos.system import System, read_json
from orderflow.core.dead_letters import topic_of
from orderflow.core.envelopes import header_text
from orderflow.core.messages import wire_name
from orderflow.core.store import SchemaBehindError, StoreUnavailableError
from orderflow.core.transport import ConsumerRecord, TopicMissingError, Transport, TransportUnavailableError
from orderflow.events.base import INVENTORY_STATUS, ORDER_EVENTS, PAYMENT_STATUS, TOPICS
from orderflow.events.order import OrderCompleted, OrderFailed
from orderflow.load.client import PRICES

RECORDS_PAGE: Final = 2_000
LETTERS: Final = tuple(topic_of(topic) for topic in (ORDER_EVENTS, PAYMENT_STATUS, INVENTORY_STATUS))
POISON: Final = b"chaos-poison"
Stream = tuple[str, str]


class Observer:
    """Notes of each source and key which numbers have come, in which order.

    A topic that is made again begins a new life: `records` and gaps are counted over all lives, order within each.
    """

    def __init__(self) -> None:
        self.records = 0
        self.repeated = 0
        self.letters = 0
        self.types: Counter[str] = Counter()
        self.troubles: list[Violation] = []
        self._reading = asyncio.Lock()
        self._positions: dict[tuple[str, int], int] = {}
        self._lives: Counter[str] = Counter()
        self._streams: dict[Stream, dict[int, int]] = {}
        self._came: dict[tuple[str, int, int, str, str], list[int]] = {}

    async def read(self, transport: Transport) -> None:
        """Everything that has come since. Raises TransportUnavailableError, TopicMissingError."""
        async with self._reading:
            await self._read(transport)

    @asynccontextmanager
    async def new_life(self, topic: str, transport: Transport) -> AsyncIterator[None]:
        """Within, the topic is deleted and made again; all that it held was read before.

        Nobody reads meanwhile. Raises TransportUnavailableError, TopicMissingError.
        """
        async with self._reading:
            await self._read(transport)
            yield
            self.begin_life(topic)

    async def _read(self, transport: Transport) -> None:
        for (topic, partition), (_, end) in sorted((await transport.ends([*TOPICS, *LETTERS])).items()):
            while (position := self._positions.get((topic, partition), 0)) < end:
                page = await transport.read(topic, partition, position, RECORDS_PAGE)
                if not page:
                    break
                self.take(page)

    def take(self, page: Sequence[ConsumerRecord]) -> None:
        """Records of one partition, in their order."""
        for record in page:
            self._positions[record.topic, record.partition] = record.offset + 1
            self.records += 1
            if record.topic in LETTERS:
                self.letters += 1
            elif (record.key or b"").startswith(POISON):
                continue
            else:
                self._event(record)

    def begin_life(self, topic: str) -> None:
        """It was deleted and made again; all that it held has been read."""
        self._lives[topic] += 1
        self._positions = {place: at for place, at in self._positions.items() if place[0] != topic}

    def events_of(self, service: str, key: str) -> int:
        """How many different events of this key the service has published, over all topics."""
        return len(self._streams.get((f"/orderflow/{service}", key), ()))

    def finish(self) -> list[Violation]:
        """What was found, with the numbers that never came."""
        gaps = [
            Violation(LOST, key, f"of {source} {len(seen)} events came, the last has number {max(seen)}")
            for (source, key), seen in self._streams.items()
            if max(seen) != len(seen)
        ]
        return [*self.troubles, *gaps]

    def _event(self, record: ConsumerRecord) -> None:
        headers = record.headers
        source, key = header_text(headers, "ce_source"), (record.key or b"").decode()
        sequence, name = int(header_text(headers, "ce_sequence") or 0), UUID(header_text(headers, "ce_id")).int
        seen = self._streams.setdefault((source, key), {})
        known = seen.get(sequence)
        if known is not None:
            self.repeated += 1
            if known != name & _MASK:
                what = f"two events of {source} have number {sequence}"
                self.troubles.append(Violation(DOUBLED, key, what))
        else:
            self.types[header_text(headers, "ce_type")] += 1
            seen[sequence] = name & _MASK
        self._order(record, source, key, sequence)

    def _order(self, record: ConsumerRecord, source: str, key: str, sequence: int) -> None:
        """A number that is lower than one that came before it in its partition must have come before that too."""
        place = (record.topic, self._lives[record.topic], record.partition, source, key)
        came = self._came.setdefault(place, [])
        if not came or sequence > came[-1]:
            came.append(sequence)
        elif sequence not in came:
            what = f"number {sequence} of {source} came after number {came[-1]} on {record.topic}"
            self.troubles.append(Violation(REORDERED, key, what))

    @property
    def finals(self) -> int:
        """Orders that have ended, as the topics tell."""
        return sum(self.types[wire_name(each)] for each in (OrderCompleted, OrderFailed))


_MASK: Final = (1 << 60) - 1


AWAY = (StoreUnavailableError, SchemaBehindError, TransportUnavailableError, TopicMissingError, OSError, TimeoutError)
LOOK_TIMEOUT_S = 20.0


@dataclass(slots=True)
class Slice:
    """`under_way` is None where nobody could be asked. `ended` is what a look found, spread over the slices since
    the one before.
    """

    at_s: float
    placed: int = 0
    ended: float = 0.0
    accepted_ms: list[float] = field(default_factory=list)
    ended_ms: list[float] = field(default_factory=list)
    under_way: int | None = None


class Samples:
    """`seconds` is the length of a slice."""

    def __init__(self, now: Callable[[], float], seconds: float) -> None:
        self.seconds = seconds
        self.slices: list[Slice] = []
        self._now = now
        self._looked = 0

    def accepted(self, latency_s: float) -> None:
        current = self._current()
        current.placed += 1
        current.accepted_ms.append(latency_s * 1000)

    def ended(self, latency_s: float) -> None:
        self._current().ended_ms.append(latency_s * 1000)

    async def watch(self, system: System, observer: Observer) -> None:
        """Look at topics and databases, once a slice, until cancelled. What is away is looked at again."""
        urls = {name: system.settings().service_database_url(name) for name in audited()}
        while True:
            await asyncio.sleep(self.seconds)
            with contextlib.suppress(*AWAY):
                async with system.transport() as transport, opened(urls) as databases:
                    while True:
                        async with asyncio.timeout(LOOK_TIMEOUT_S):
                            await self._look(databases, transport, observer)
                        await asyncio.sleep(self.seconds)

    async def _look(self, databases: Databases, transport: Transport, observer: Observer) -> None:
        found, before = await look(databases, transport), observer.finals
        await observer.read(transport)
        current = self._current()
        unseen = self.slices[self._looked :] or [current]
        for each in unseen:
            each.ended += (observer.finals - before) / len(unseen)
        self._looked = len(self.slices)
        current.under_way = sum(
            each.unsent + each.open_intents + each.retrying + sum(each.lag.values()) for each in found.services
        )

    def _current(self) -> Slice:
        now = max(0.0, self._now())
        while not self.slices or self.slices[-1].at_s + self.seconds <= now:
            self.slices.append(Slice(len(self.slices) * self.seconds))
        return self.slices[-1]


def percentile(values: Sequence[float], share: float) -> float | None:
    """Of none there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


WHOLE_S, CLIENT_S, REST_S = 180.0, 60.0, 420.0
AGAIN_S = 2.0
TELL_EVERY_S = 5.0
CALM_TRIES = 40
PAGE = 100
STOCKED: Final = 1_000_000
PLACED_AND_ENDED: Final = 2
BY_PROMISE: Final[Mapping[int, str]] = {
    Promise.NOTHING_LOST: LOST,
    Promise.NOTHING_TWICE: DOUBLED,
    Promise.NOTHING_ILLEGAL: ADRIFT,
    Promise.NOTHING_BLOCKED: STUCK,
    Promise.BOOKS_BALANCE: ADRIFT,
}


@dataclass(slots=True)
class RunVerdict:
    """`troubles` are what must not be; how many there were of each word is in `counts`."""

    troubles: list[Violation] = field(default_factory=list)
    orders: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    rest_s: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(trouble.verdict for trouble in self.troubles)
        return {word: found[word] for word in VERDICTS}

    @property
    def passed(self) -> bool:
        return not self.troubles


class Judge:
    """`notify` hears of what is waited for."""

    def __init__(
        self, system: System, client: Client, history: History, observer: Observer, notify: Callable[[str], None]
    ) -> None:
        self._system = system
        self._client = client
        self._history = history
        self._observer = observer
        self._notify = notify
        self._verdict = RunVerdict()
        self._left = ""
        self._tell_at = 0.0

    async def judge(self) -> RunVerdict:
        """Everything has to be healed before."""
        loop, verdict = asyncio.get_running_loop(), self._verdict
        began = loop.time()
        if not await self._system.until_whole(WHOLE_S):
            self._find(STUCK, "processes", f"after {WHOLE_S:.0f} s not everything runs again")
        self._notify("waiting for the client")
        await self._client.finish(CLIENT_S)
        await self._client.ask_again()
        self._notify("giving up the poison, and waiting until nothing is under way")
        await self._dead_letters()
        await self._books()
        verdict.rest_s = loop.time() - began
        self._notify("reading topics and orders")
        async with self._system.transport() as transport:
            await self._observer.read(transport)
        verdict.troubles.extend(self._observer.finish())
        await self._health()
        await self._orders()
        verdict.troubles.extend(self._history.troubles)
        verdict.outcomes = Counter(placing.outcome for placing in self._history.placings.values())
        return verdict

    async def _books(self) -> None:
        """The audit, over all orders that were accepted."""
        accepted = [each.order_id for each in self._history.placings.values() if each.outcome == OK]
        urls = {name: self._system.settings().service_database_url(name) for name in audited()}
        try:
            async with self._system.transport() as transport:
                report = await audit(urls, transport, wait_s=REST_S, accepted=accepted, notify=self._under_way)
        except (StoreUnavailableError, SchemaBehindError, TransportUnavailableError) as error:
            self._find(STUCK, "the books", f"they cannot be read: {error}")
            return
        if not report.at_rest:
            self._find(STUCK, "the system", f"after {REST_S:.0f} s something is still under way: {self._left}")
        if report.stuck:
            self._find(STUCK, "orders", f"{report.stuck} orders wait for an operator")
        for finding in report.findings:
            if not is_own_poison(finding):
                self._find(BY_PROMISE[finding.promise], finding.subject, str(finding))
        self._verdict.statuses = dict(report.statuses)

    def _under_way(self, look: Look) -> None:
        """Whoever waits is to see what for."""
        left = "; ".join(f"{each.service}: {each.under_way}" for each in look.services if each.under_way)
        now = asyncio.get_running_loop().time()
        if left and now >= self._tell_at:
            self._tell_at = now + TELL_EVERY_S
            self._notify(f"  under way: {left}")
        self._left = left

    async def _dead_letters(self) -> None:
        """Only what was sent as poison may be dead; an operator gives it up, and then what was held behind it."""
        for _ in range(CALM_TRIES):
            listed = await self._system.command("dlt", "list", "--state", "all", "--json")
            document = read_json(listed.stdout)
            letters = document.get("dead_letters", []) if isinstance(document, dict) else []
            if listed.returncode == 0 and not letters:
                return
            foreign = [each for each in letters if not each["key"].startswith(POISON.decode())]
            if dead := [each for each in foreign if each["state"] == "dead"]:
                for each in dead:
                    self._find(STUCK, each["key"], f"a dead letter: {each['error']}: {each['message']}")
                return
            if len(foreign) < len(letters):
                await self._system.command("dlt", "discard", "--all", "--yes", "--reason", "chaos: poison on purpose")
            await asyncio.sleep(AGAIN_S)
        self._find(STUCK, "dead letters", f"they do not end: {(listed.stdout or listed.stderr)[-600:]}")

    async def _health(self) -> None:
        for _ in range(CALM_TRIES):
            done = await self._system.command("health", "--json")
            if done.returncode == 0:
                return
            await asyncio.sleep(AGAIN_S)
        self._find(STUCK, "health", (done.stdout or done.stderr)[-600:])

    async def _orders(self) -> None:
        """Each order that the service has, against what was wanted of it."""
        by_customer: dict[str, list[dict[str, Any]]] = defaultdict(list)
        sold: Counter[str] = Counter()
        address = self._system.services("order")[0].address
        async for order in _listed(address):
            self._verdict.orders += 1
            by_customer[order["customer_id"]].append({name: order[name] for name in KEPT})
            if (told := self._observer.events_of("order", order["id"])) < PLACED_AND_ENDED:
                self._find(LOST, order["id"], f"it was placed and has ended, and the topics have {told} such events")
            if order["status"] == "COMPLETED":
                sold.update({item["sku"]: item["quantity"] for item in order["items"]})
        for placing in self._history.placings.values():
            self._verdict.troubles.extend(compare(placing, by_customer.pop(placing.customer, [])))
        for customer, found in by_customer.items():
            if customer.startswith(CUSTOMER):
                self._find(DOUBLED, customer, f"nobody ordered {[each['id'] for each in found]}, or it was refused")
        await self._stock(sold)

    async def _stock(self, sold: Mapping[str, int]) -> None:
        """What was put in, less what the completed orders have."""
        address = self._system.services("inventory")[0].address
        async with httpx2.AsyncClient(base_url=address, timeout=30.0, trust_env=False) as http:
            for sku in PRICES:
                reply = await http.get(f"/stock/{sku}")
                left, wanted = reply.json()["on_hand"], STOCKED - sold.get(sku, 0)
                if left != wanted:
                    self._find(ADRIFT, sku, f"{wanted} must be left, there are {left}")

    def _find(self, verdict: str, subject: str, what: str) -> None:
        self._verdict.troubles.append(Violation(verdict, subject, what))


def compare(placing: Placing, found: Sequence[Mapping[str, Any]]) -> Iterator[Violation]:
    """What the client knows of a wanted order, and the orders of that customer that the service has at rest."""
    subject, ids = f"order {placing.number}", [each["id"] for each in found]
    if len(found) > 1 and (placing.has_key or placing.outcome == OK):
        yield Violation(DOUBLED, subject, f"there are {len(found)} of it: {ids}")
    if placing.outcome == OK and placing.order_id not in ids:
        yield Violation(LOST, subject, f"{placing.order_id} was accepted, and is not there")
    if placing.outcome == FAILED and found:
        yield Violation(DOUBLED, subject, f"it was refused, and {ids[0]} is there")
    for each in found:
        if difference := placing.difference(each):
            yield Violation(ADRIFT, each["id"], difference)
        if placing.kind != INVALID and (each["status"], each["refund"]) != placing.ends:
            what = f"{placing.kind}: it has to end as {placing.ends}, and is {each['status']}, {each['refund']}"
            yield Violation(ADRIFT, each["id"], what)


def is_own_poison(finding: Finding) -> bool:
    """A record on a topic that no service wrote is what an audit has to find: it is one that this run has sent."""
    return finding.kind is Kind.RECORD_FORGED and finding.subject.startswith(POISON.decode())


KEPT: Final = ("id", "status", "refund", "customer_id", "currency", "total", "payment_method")


async def _listed(address: str) -> AsyncIterator[dict[str, Any]]:
    """All orders, page by page."""
    async with httpx2.AsyncClient(base_url=address, timeout=30.0, trust_env=False) as http:
        parameters: dict[str, Any] = {"limit": PAGE}
        while True:
            page = (await http.get("/orders", params=parameters)).raise_for_status().json()
            for order in page["orders"]:
                yield order
            if page["next"] is None:
                return
            parameters["cursor"] = page["next"]
