"""What a decision is, and how a service lists its decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from orderflow.messaging.catalogue import Catalogue, wire_name
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.message import Event, Message
from orderflow.messaging.rows import Fact, Ref, Row, Rows


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """Something to ask of the outside world after the commit: `charge:{order_id}`.

    `key` is also the idempotency key given to the outside. `request` is a JSON-able value that the
    service's gateway understands. Returning the intent that is being answered asks it again, later.
    """

    key: str
    kind: str
    request: dict[str, Any]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The whole effect of one message. Empty: the message is taken note of and changes nothing.

    `rows` are new versions, `facts` are added, `events` are published through the outbox, `intents` are
    asked after the commit, `closes` are keys of intents that are not to be asked any more, `answer` is what a
    command's caller gets.
    """

    rows: Sequence[Row] = ()
    facts: Sequence[Fact] = ()
    events: Sequence[Event] = ()
    intents: Sequence[Intent] = ()
    closes: Sequence[str] = ()
    answer: object = None


class RefusedError(Exception):
    """A command cannot be carried out; nothing is stored. `answer` tells the caller why."""

    def __init__(self, answer: object) -> None:
        super().__init__(str(answer))
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Handler:
    """One line of a service's table: which rows a message touches, and the pure decision over them.

    `decide` gets the working set and the envelope; it does no I/O and reads no clock. What it raises parks
    the message (a command's caller gets an error); RefusedError refuses a command. A row that the message makes, and
    whose id is its key, need not be touched: the key's lock is that row's, and there is nothing to load.
    `trusts` are fields that are taken as they come, since nothing is stored yet to compare them with: no edit changes
    them in an event that could be read.
    """

    touches: Callable[[Any], Iterable[Ref]]
    decide: Callable[[Rows, Envelope], Decision]
    trusts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subscription:
    """A consumer of the service: its name is its Kafka group and its name in the inbox.

    What is of no hurry is gathered: a batch starts no sooner than `pace_ms` after the last one.
    """

    consumer: str
    topics: tuple[str, ...]
    pace_ms: float = 0.0


class Stated(NamedTuple):
    """An event that was published before. `number` is its number among the service's events of the key, from 1 on;
    0: the last number that was given.
    """

    event: Event
    number: int


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What rows say by themselves: the events that they stand for, and the intents that must be open."""

    events: Sequence[Stated] = ()
    intents: Sequence[Intent] = ()


@dataclass(frozen=True, slots=True)
class Restatement:
    """How a service says again what it has said of a key, should that have been lost: from its rows alone.

    `touches` names the rows of a key; `state` is pure, and says nothing that was not decided before.
    """

    touches: Callable[[str], Iterable[Ref]]
    state: Callable[[Rows, str], Statement]


@dataclass(frozen=True, slots=True)
class Service:
    """A service as the core sees it. `handlers` is its table message → decision.

    A message type of `catalogue` without a handler is passed over. `publishes` are the topics it writes.
    `confirm` says why an operator must confirm acts on its events ("" if he need not). `restatement` is what it can
    say again.
    """

    name: str
    catalogue: Catalogue
    subscriptions: tuple[Subscription, ...]
    publishes: tuple[str, ...]
    handlers: Mapping[type[Message], Handler]
    confirm: str = ""
    restatement: Restatement | None = None

    def unread(self) -> frozenset[bytes]:
        """The wire names of the events that it knows and passes over."""
        types = (each for each in self.catalogue.types if issubclass(each, Event) and each not in self.handlers)
        return frozenset(wire_name(each).encode() for each in types)
