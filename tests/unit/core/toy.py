"""A service of a few lines that does everything the core can be asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from orderflow.core.dead_letters import FLOW_EVENTS
from orderflow.core.failures import FinalError, InfrastructureError
from orderflow.core.messages import Answer, Catalogue, Command, Envelope, Event
from orderflow.core.service import (
    Decision,
    Fact,
    Handler,
    Intent,
    Ref,
    RefusedError,
    Row,
    Rows,
    Service,
    Subscription,
)
from orderflow.core.store import DataRefusedError


class ToyEvent(Event, frozen=True, kw_only=True):
    TOPIC: ClassVar[str] = "counts"

    name: str

    @property
    def key(self) -> str:
        return self.name


class Counted(ToyEvent, frozen=True, kw_only=True):
    """Read. A negative amount makes the decision raise, -13 for good; 666 is refused by the database."""

    TYPE: ClassVar[str] = "toy.Counted"

    amount: int


class Opened(ToyEvent, frozen=True, kw_only=True):
    """Read; happens once a key."""

    TYPE: ClassVar[str] = "toy.Opened"
    ONCE: ClassVar[bool] = True


class Noticed(ToyEvent, frozen=True, kw_only=True):
    """Known, and not read."""

    TYPE: ClassVar[str] = "toy.Noticed"


class Asked(ToyEvent, frozen=True, kw_only=True):
    """Read; opens an intent."""

    TYPE: ClassVar[str] = "toy.Asked"


class Total(ToyEvent, frozen=True, kw_only=True):
    """Published for each change of a tally."""

    TYPE: ClassVar[str] = "toy.Total"
    TOPIC: ClassVar[str] = "totals"

    total: int


class Put(Command, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "toy.Put"
    ACTION: ClassVar[str] = "put"

    name: str
    total: int

    @property
    def key(self) -> str:
        return self.name


class Withdraw(Command, frozen=True, kw_only=True):
    """Closes what `Asked` opened."""

    TYPE: ClassVar[str] = "toy.Withdraw"

    name: str

    @property
    def key(self) -> str:
        return self.name


class Said(Answer, frozen=True, kw_only=True):
    """`words` of "again" asks the intent again, "bad" makes the decision raise."""

    TYPE: ClassVar[str] = "toy.Said"

    name: str
    words: str

    @property
    def key(self) -> str:
        return self.name


class Tally(Row, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "tallies"

    name: str
    total: int

    @property
    def id(self) -> str:
        return self.name


class Movement(Fact, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "movements"

    name: str
    number: int

    @property
    def id(self) -> tuple[str, int]:
        return self.name, self.number


@dataclass
class Moods:
    """What a test changes while it runs; a real decision has nothing of the kind.

    `broken` are keys or types whose decisions raise (with `words`), `away` those whose decisions find something away.
    `handled` is what took effect, in the order of the commits.
    """

    broken: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)
    handled: list[str] = field(default_factory=list)
    words: str = ""


class Decisions:
    """The toy's decisions; `moods` lets a test break and mend them."""

    def __init__(self, moods: Moods) -> None:
        self._moods = moods

    def counted(self, rows: Rows, envelope: Envelope) -> Decision:
        event = envelope.message
        assert isinstance(event, Counted)
        if not self._moods.away.isdisjoint((event.name, event.TYPE)):
            raise InfrastructureError("the tax office is closed")
        if event.amount == -13:
            raise FinalError("minus thirteen can never be counted")
        if event.amount < 0 or not self._moods.broken.isdisjoint((event.name, event.TYPE)):
            raise ArithmeticError(f"{event.amount} is below zero{self._moods.words}")
        tally = rows.get(Tally, event.name)
        total = (tally.total if tally else 0) + event.amount
        return Decision(
            rows=(Tally(name=event.name, total=total),),
            facts=(Movement(name=event.name, number=total),),
            events=(Total(name=event.name, total=total),),
        )

    def opened(self, rows: Rows, envelope: Envelope) -> Decision:
        if Opened.TYPE in self._moods.broken:
            raise LookupError("the door is stuck")
        return Decision()

    def asked(self, rows: Rows, envelope: Envelope) -> Decision:
        return Decision(intents=(intent_of(envelope.key),))

    def said(self, rows: Rows, envelope: Envelope) -> Decision:
        answer = envelope.message
        assert isinstance(answer, Said)
        if answer.words == "bad" or not self._moods.broken.isdisjoint((answer.name, answer.TYPE)):
            raise ArithmeticError(f"a bad word{self._moods.words}")
        if answer.words == "again":
            return Decision(intents=(intent_of(envelope.key),))
        return Decision(events=(Total(name=answer.name, total=1),))

    def withdraw(self, rows: Rows, envelope: Envelope) -> Decision:
        return Decision(closes=(intent_of(envelope.key).key,))

    def put(self, rows: Rows, envelope: Envelope) -> Decision:
        command = envelope.message
        assert isinstance(command, Put)
        if command.total < 0:
            raise RefusedError("below zero")
        if command.total == 13:
            raise ArithmeticError("thirteen")
        tally = Tally(name=command.name, total=command.total)
        return Decision(rows=(tally,), events=(Total(name=command.name, total=command.total),), answer=tally)


def touches(message: Any) -> Iterable[Ref]:
    if message.name == "untouchable":
        raise LookupError("cannot say what it touches")
    return (Ref(Tally, message.name),)


def toy_service(moods: Moods) -> Service:
    decisions = Decisions(moods)
    return Service(
        name="counter",
        catalogue=Catalogue((Counted, Opened, Noticed, Asked, Said, Total, *FLOW_EVENTS)),
        subscriptions=(Subscription("counter", ("counts",)),),
        publishes=("totals", "flow-status"),
        handlers={
            Counted: Handler(touches, decisions.counted),
            Opened: Handler(touches, decisions.opened),
            Asked: Handler(touches, decisions.asked),
            Said: Handler(touches, decisions.said),
            Put: Handler(touches, decisions.put),
            Withdraw: Handler(touches, decisions.withdraw),
        },
    )


def intent_of(name: str) -> Intent:
    return Intent(key=f"ask:{name}", kind="ask", request={"name": name})


def refuse_666(before: Row | None, row: Row) -> None:
    if isinstance(row, Tally) and row.total == 666:
        raise DataRefusedError("the number of the beast", "23514", "tallies_no_beast")
