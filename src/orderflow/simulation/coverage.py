"""What has happened in a world, in words that can be counted over many: which event came to which consumer, in which
state of its order, what became of it, and which fault had struck the service at which step just before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orderflow.messaging.signals import BatchCommitted, Handled, Signal, Waiting
from orderflow.messaging.transport import ProducerRecord
from orderflow.simulation.model import Model

MANY = 3
"""Of a kind, more are counted as so many."""


class Coverage:
    """`seen` are the words; each is there once, however often it happened."""

    def __init__(self, model: Model) -> None:
        self.seen: set[str] = set()
        self._model = model
        self._struck: dict[str, str] = {}
        self._trouble = ""

    def strikes(self, service: str, what: str, step: str) -> None:
        """A fault or a trouble strikes a process of the service, at or after a step."""
        self._struck[service] = struck = f"{what} at {step}"
        self.seen.add(f"{service}: {struck}")

    def trouble(self, trouble: str) -> None:
        """It begins, somewhere."""
        self._trouble = trouble

    def appended(self, records: Sequence[ProducerRecord]) -> None:
        """A relay has appended these: how many at once, and how many of one key."""
        of_one = max(Counter(record.key for record in records).values(), default=0)
        topics = {record.topic.removesuffix(".DLT") for record in records}
        self.seen.add(f"append {_some(len(records))} of {_some(len(topics))} topics, {_some(of_one)} of one key")

    def told(self, who: str, signal: Signal) -> None:
        """A process says what it does."""
        service = who.partition("#")[0]
        if not isinstance(signal, BatchCommitted):
            component = signal.component if isinstance(signal, Waiting) else ""
            self.seen.add(f"{service}: {type(signal).__name__} {component}".rstrip())
            return
        outcomes = Counter(str(each.outcome) for each in signal.handled)
        batch = " ".join(f"{_some(count)} {outcome}" for outcome, count in sorted(outcomes.items()))
        self.seen.add(f"{signal.consumer}: {batch}")
        struck = self._struck.pop(service, "")
        for each in signal.handled:
            self._handled(signal.consumer, each, struck)

    def _handled(self, consumer: str, each: Handled, struck: str) -> None:
        what = f"{consumer} {each.outcome} {each.event_type.removeprefix('orderflow.')} {self._state(each.key)}"
        self.seen.add(what)
        if struck:
            self.seen.add(f"{what}, after {struck}")
        if self._trouble:
            self.seen.add(f"{consumer} {each.outcome} {each.event_type.removeprefix('orderflow.')}: {self._trouble}")

    def _state(self, key: str) -> str:
        """Where the order stands, in all services."""
        model = self._model
        order, payment = model.orders.get(key), model.payments.get(key)
        of_two = (order.status if order else "-", payment.status if payment else "-")
        return "/".join((*of_two, model.reservations.get(key, "-")))


def _some(count: int) -> str:
    return str(count) if count <= MANY else "many"
