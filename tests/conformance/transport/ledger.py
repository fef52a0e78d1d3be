"""A service that writes down the numbers of a key in the order in which their effects were committed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar
from uuid import uuid4

import msgspec

from orderflow.core import envelopes
from orderflow.core.dead_letters import FLOW_EVENTS
from orderflow.core.messages import Catalogue, Envelope, Event
from orderflow.core.service import Decision, Handler, Ref, Row, Rows, Service, Subscription
from orderflow.core.store import DataRefusedError
from orderflow.core.transport import ProducerRecord


class Numbered(Event, frozen=True, kw_only=True):
    """The next number of a key."""

    TYPE: ClassVar[str] = "ledger.Numbered"
    TOPIC: ClassVar[str] = "numbers"

    name: str
    number: int

    @property
    def key(self) -> str:
        return self.name


class Page(Row, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "pages"

    name: str
    numbers: tuple[int, ...]

    @property
    def id(self) -> str:
        return self.name


class Fates:
    """How often each number fails before it is let in, and where: in its decision or in the database."""

    def __init__(self, rng: random.Random, share: float, most: int) -> None:
        self._rng = rng
        self._share = share
        self._most = most
        self._left: dict[tuple[str, int, str], int] = {}
        self.failed: Counter[str] = Counter()

    def meet(self, name: str, number: int, where: str) -> bool:
        """Whether it fails this time."""
        fate = (name, number, where)
        if fate not in self._left:
            fails = self._rng.random() < self._share
            self._left[fate] = self._rng.randint(1, self._most) if fails else 0
        self._left[fate] -= 1
        self.failed[where] += self._left[fate] >= 0
        return self._left[fate] >= 0


def ledger(fates: Fates, topic: str) -> Service:
    """The service; it reads `topic`."""

    def decide(rows: Rows, envelope: Envelope) -> Decision:
        event = envelope.message
        assert isinstance(event, Numbered)
        if fates.meet(event.name, event.number, "decision"):
            raise ArithmeticError(f"{event.number} is not taken yet")
        page = rows.get(Page, event.name)
        return Decision(rows=(Page(name=event.name, numbers=(*(page.numbers if page else ()), event.number)),))

    return Service(
        name="ledger",
        catalogue=Catalogue((Numbered, *FLOW_EVENTS)),
        subscriptions=(Subscription(f"ledger-{topic}", (topic,)),),
        publishes=("flow-status",),
        handlers={Numbered: Handler(_page, decide)},
    )


def check(fates: Fates) -> Any:
    """The rule of the table: the database refuses some numbers, too."""

    def refuse(_before: Row | None, row: Row) -> None:
        assert isinstance(row, Page)
        if fates.meet(row.name, row.numbers[-1], "database"):
            raise DataRefusedError("not this one", "23514", "pages_not_this_one")

    return refuse


def records(topic: str, keys: int, count: int) -> list[ProducerRecord]:
    """`count` numbers of each key, in turns."""
    return [_record(topic, f"key-{key}", number) for number in range(count) for key in range(keys)]


def _page(message: Any) -> Iterable[Ref]:
    return (Ref(Page, message.name),)


def _record(topic: str, name: str, number: int) -> ProducerRecord:
    event = Numbered(name=name, number=number)
    envelope = Envelope(id=uuid4(), message=event, source="/ledger", key=name, sequence=number + 1)
    headers = envelopes.with_time(envelopes.to_headers(envelope), 1_700_000_000_000)
    return ProducerRecord(topic, name.encode(), msgspec.json.encode(event), headers)
