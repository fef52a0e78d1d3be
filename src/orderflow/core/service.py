"""What a service declares: its rows, its state machines, and its decisions, each typed by its message.

State consists of immutable rows. A service names the rows that a message touches; the core locks, loads and saves
them. A state machine is data: decisions use the same table that the database enforces.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from operator import attrgetter
from types import FunctionType, ModuleType
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, overload

import msgspec

from orderflow.core.failures import FinalError
from orderflow.core.messages import Catalogue, Envelope, Event, Message, wire_name


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row that can change: a new version replaces the old one.

    The class declares its table, and every statement is generated from it. The fields are the columns of `TABLE`, and
    `KEY` is the column that identifies the row. `CHANGES` are the columns that an update writes (all, if empty), and
    `CHANGED_AT` is a column that an update sets to the database's time. With `STEPWISE` every version is written, one
    after the other, so that triggers see each change of state; otherwise only the last version in a batch is.
    """

    TABLE: ClassVar[str]
    KEY: ClassVar[str] = ""
    CHANGES: ClassVar[tuple[str, ...]] = ()
    CHANGED_AT: ClassVar[str] = ""
    STEPWISE: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if "KEY" in cls.__dict__:
            cls.id = property(attrgetter(cls.KEY))  # type: ignore[assignment,method-assign]

    @property
    def id(self) -> Hashable:
        raise NotImplementedError

    @property
    def ref(self) -> Ref:
        return Ref(type(self), self.id)


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is only ever added (a transition, a stock movement).

    `id` is its natural unique key: the value of the column `KEY`, or a property of its own where that has several.
    """

    TABLE: ClassVar[str]
    KEY: ClassVar[str]

    def __init_subclass__(cls) -> None:
        if "KEY" in cls.__dict__:
            cls.id = property(attrgetter(cls.KEY))  # type: ignore[assignment,method-assign]

    @property
    def id(self) -> Hashable:
        raise NotImplementedError


class Ref(NamedTuple):
    """A reference to a row: its type and its id."""

    type: type[Row]
    id: Hashable


R = TypeVar("R", bound=Row)


class Rows:
    """The working set that a decision sees: rows as loaded, under the changes of this batch so far."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Mapping[Ref, Row]) -> None:
        self._rows: Mapping[Any, Row] = rows

    def get(self, row_type: type[R], row_id: Hashable) -> R | None:
        """The row, or None if it does not exist. Only rows that `touches` has named can be found."""
        row = self._rows.get((row_type, row_id))
        return row if isinstance(row, row_type) else None


class IllegalTransitionError(FinalError):
    """The event is illegal in this state, and will never be legal."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(f"{machine}: {event} cannot happen in state {state}")
        self.machine = machine
        self.state = state
        self.event = event


@dataclass(frozen=True, slots=True)
class StateMachine:
    """A table of legal transitions: (state, event) → next state. `name` is the table whose rows have the states.

    A row starts in the state `initial`, through the event `created_by`.
    """

    name: str
    initial: str
    created_by: str
    transitions: Mapping[tuple[str, str], str]

    def after(self, state: str, event: str) -> str:
        """The next state. Raises IllegalTransitionError."""
        following = self.transitions.get((state, event))
        if following is None:
            raise IllegalTransitionError(self.name, state, event)
        return following

    def states(self) -> tuple[str, ...]:
        """Every state, in order of its first occurrence."""
        named = [self.initial]
        for (before, _), after in self.transitions.items():
            named += (before, after)
        return tuple(dict.fromkeys(named))

    def events(self) -> tuple[str, ...]:
        """Every event that causes a transition, in order of its first occurrence."""
        return tuple(dict.fromkeys(event for _, event in self.transitions))

    def final_states(self) -> tuple[str, ...]:
        """The states without transitions to others."""
        left = {before for before, _ in self.transitions}
        return tuple(state for state in self.states() if state not in left)

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """The table as the database holds it: (machine, state, event, next state)."""
        for (before, event), after in self.transitions.items():
            yield (self.name, before, event, after)


A = TypeVar("A", bound=Message)
B = TypeVar("B", bound=Message)
C = TypeVar("C", bound=Message)
D = TypeVar("D", bound=Message)
E = TypeVar("E", bound=Message)
M = TypeVar("M", bound=Message)


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """Something to ask of the outside world after the commit: `charge:{order_id}`.

    `key` is also the idempotency key given to the outside. `request` is a JSON-able value that the
    service's gateway understands. Returning the intent that is being answered asks it again, later.
    """

    key: str
    kind: str
    request: dict[str, Any]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The whole effect of one message. An empty decision records that the message was handled, and changes nothing.

    `rows` are new versions of rows, `facts` are added, `events` are published through the outbox, and `intents` are
    asked after the commit. `closes` are keys of intents that need not be asked any more. `answer` is returned to a
    command's caller. `result` goes into the operators' log, if the command is an operator's.
    """

    rows: Sequence[Row] = ()
    facts: Sequence[Fact] = ()
    events: Sequence[Event] = ()
    intents: Sequence[Intent] = ()
    closes: Sequence[str] = ()
    answer: object = None
    result: str = ""


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


def _nothing(_: Message) -> tuple[Ref, ...]:
    return ()


class Handles(Generic[M]):
    """A decorator: the function decides messages of the type M. It stays a plain function, to be called in tests."""

    def __init__(
        self, types: Iterable[type[Message]], touches: Callable[[M], Iterable[Ref]], trusts: tuple[str, ...]
    ) -> None:
        self._types = tuple(types)
        self._touches = touches
        self._trusts = trusts

    @overload
    def __call__(self, decide: Callable[[Rows, M], Decision]) -> Callable[[Rows, M], Decision]: ...
    @overload
    def __call__(
        self, decide: Callable[[Rows, M, Envelope], Decision]
    ) -> Callable[[Rows, M, Envelope], Decision]: ...
    def __call__(self, decide: Callable[..., Decision]) -> Callable[..., Decision]:
        """The same function, with its lines of a service's table in `handlers`. Raises TypeError."""
        _require_decision(decide)
        handler = Handler(self._touches, _of_envelope(decide), self._trusts)
        decide.handlers = dict.fromkeys(self._types, handler)  # type: ignore[attr-defined]
        return decide


def _require_decision(decide: Callable[..., Decision]) -> None:
    if not isinstance(decide, FunctionType):
        raise TypeError(f"{decide!r} is not a function: put @handles(...) before a function of rows and a message")
    if decide.__code__.co_flags & (CO_COROUTINE | CO_GENERATOR | CO_ASYNC_GENERATOR):
        raise TypeError(
            f"{decide.__name__} is async or a generator: a decision is a plain function; to ask the outside world, "
            "return an Intent"
        )
    if decide.__code__.co_argcount not in (2, 3):
        raise TypeError(f"{decide.__name__} must take two or three parameters: rows, the message, and the envelope")


def _of_envelope(decide: Callable[..., Decision]) -> Callable[[Rows, Envelope], Decision]:
    """Adapt a decision to the core's call: the parameter for the envelope is optional."""
    if decide.__code__.co_argcount > len(("rows", "message")):
        return wraps(decide)(lambda rows, envelope: _decided(decide, decide(rows, envelope.message, envelope)))
    return wraps(decide)(lambda rows, envelope: _decided(decide, decide(rows, envelope.message)))


def _decided(decide: Callable[..., Decision], found: Decision) -> Decision:
    if not isinstance(found, Decision):
        what = "None" if found is None else f"a {type(found).__name__}"
        raise TypeError(f"{decide.__name__} must return a Decision, not {what}; Decision() changes nothing")
    return found


Touches = Callable[[M], Iterable[Ref]]


@overload
def handles(a: type[A], /, *, touches: Touches[A] = ..., trusts: tuple[str, ...] = ...) -> Handles[A]: ...
@overload
def handles(a: type[A], b: type[B], /, *, touches: Touches[A | B] = ...) -> Handles[A | B]: ...
@overload
def handles(a: type[A], b: type[B], c: type[C], /, *, touches: Touches[A | B | C] = ...) -> Handles[A | B | C]: ...
@overload
def handles(
    a: type[A], b: type[B], c: type[C], d: type[D], /, *, touches: Touches[A | B | C | D] = ...
) -> Handles[A | B | C | D]: ...
@overload
def handles(
    a: type[A], b: type[B], c: type[C], d: type[D], e: type[E], /, *, touches: Touches[A | B | C | D | E] = ...
) -> Handles[A | B | C | D | E]: ...
def handles(
    *types: type[Message], touches: Callable[[Any], Iterable[Ref]] = _nothing, trusts: tuple[str, ...] = ()
) -> Handles[Any]:
    """`@handles(OrderPlaced)` before `def order_placed(rows: Rows, event: OrderPlaced) -> Decision`.

    The function is pure: no I/O, no clock, no chance. What it raises parks the message (a command's caller gets an
    error); RefusedError refuses a command. A third parameter gets the envelope, for the id of the message.
    `touches` names the rows that a message needs: only these are locked, loaded and seen. `trusts` are fields that
    are taken as they come, since nothing is stored yet to compare them with: no edit changes them in an event that
    could be read.
    """
    for each in types or (None,):
        if not (isinstance(each, type) and issubclass(each, Message)):
            raise TypeError(f"@handles takes message types, such as @handles(OrderPlaced), not {each!r}")
    return Handles(types, touches, trusts)


def handlers(*places: Callable[..., Decision] | ModuleType) -> Mapping[type[Message], Handler]:
    """The table message → decision of these decorated functions, and of those that these modules define.

    Raises TypeError: a function that `handles` does not decorate, a message that two of them decide.
    """
    table: dict[type[Message], Handler] = {}
    for place in places:
        for decide in _decisions(place):
            lines: Mapping[type[Message], Handler] | None = getattr(decide, "handlers", None)
            if lines is None:
                raise TypeError(f"{decide.__name__} decides no message: put @handles(...) before it")
            if twice := table.keys() & lines.keys():
                raise TypeError(f"two functions decide {', '.join(sorted(each.__name__ for each in twice))}")
            table |= lines
    return table


def _decisions(place: Callable[..., Decision] | ModuleType) -> Iterable[Any]:
    if not isinstance(place, ModuleType):
        return (place,)
    found = (each for each in vars(place).values() if getattr(each, "__module__", None) == place.__name__)
    return (each for each in found if isinstance(getattr(each, "handlers", None), dict))


def _require_several(whose: str, name: str, given: object, kind: type) -> None:
    """A text is a sequence too, of letters: the comma that makes a tuple is easily forgotten."""
    if not isinstance(given, (tuple, list)) or not all(isinstance(each, kind) for each in given):
        raise TypeError(f"{whose}: `{name}` must be a tuple, such as (first,), of {kind.__name__}, not {given!r}")


def _require_columns(table: type[Row] | type[Fact]) -> None:
    if not issubclass(table, (Row, Fact)):
        raise TypeError(f"{table.__name__} in `tables` must derive from Row or Fact")
    if not hasattr(table, "TABLE"):
        raise TypeError(f"{table.__name__} has no TABLE: name its table, such as TABLE: ClassVar[str] = 'shipments'")
    fields = table.__struct_fields__
    named = [getattr(table, "KEY", ""), *(table.CHANGES if issubclass(table, Row) else ())]
    if lacking := [name for name in named if name and name not in fields]:
        raise TypeError(
            f"{table.__name__} has no field {lacking[0]}, which its KEY or CHANGES names: {', '.join(fields)}"
        )


@dataclass(frozen=True, slots=True)
class Subscription:
    """A consumer of the service. Its name is also that of its consumer group, and its name in the inbox.

    `pace_ms` is the least time between the starts of two batches: topics that are not urgent are read in larger ones.
    """

    consumer: str
    topics: tuple[str, ...]
    pace_ms: float = 0.0

    def __post_init__(self) -> None:
        """Raises TypeError: topics that are not a tuple of names."""
        _require_several(f"the subscription {self.consumer}", "topics", self.topics, str)


class Stated(NamedTuple):
    """An event that was published before. `number` is its number among the service's events of the key, from 1;
    0 means the last number.
    """

    event: Event
    number: int


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What rows stand for: the events that must have been published, and the intents that must be open."""

    events: Sequence[Stated] = ()
    intents: Sequence[Intent] = ()


@dataclass(frozen=True, slots=True)
class Restatement:
    """Derives the events of a key from its rows alone, so that a repair can publish them again if they were lost.

    `touches` names the rows of a key. `state` is pure, and returns only what was decided before.
    """

    touches: Callable[[str], Iterable[Ref]]
    state: Callable[[Rows, str], Statement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything that makes a service run. Each service has one, `SERVICE`, and the entry points of the group
    `orderflow.services` name those that a system is made of.

    The core reads the first half. `handlers` is its table message → decision; a message type of `catalogue` without a
    handler is passed over. `publishes` are the topics it writes. `confirm` says why an operator must confirm acts on
    its events ("" if he need not). `restatement` is what it can say again. `tables` are the types of its rows and
    facts, in the order in which they are written, and `machines` what code and database must enforce alike.

    `sql` is the package whose folder `sql/migrations` makes its tables (after the core's). The rest is for the
    process around the core, which calls each with the service's surroundings (`ServiceContext`): `api` gives the HTTP
    operations, and `mounts` ASGI applications of any framework by the path below which they answer (`/admin`); both
    are called once, before the engine starts. `gateway` is there only where intents are; one with a `close` is closed
    at the end. `on_start` runs once the engine has started, in every process of the service: it must be harmless when
    done twice. `upkeep` runs every `upkeep_every_s`, in every process too. Both are tried again later when they raise
    StoreUnavailableError. `alarms` reads, every few seconds, what an operator has to see to: a sentence by name; it
    makes nothing unready. `personal`: it is where names of customers come in and are shown, so that its process alone
    gets their keys. `logged` says what stands besides in the log line of a message that was handled, by name.
    """

    name: str
    catalogue: Catalogue
    subscriptions: tuple[Subscription, ...]
    publishes: tuple[str, ...]
    handlers: Mapping[type[Message], Handler]
    confirm: str = ""
    restatement: Restatement | None = None
    tables: Sequence[type[Row] | type[Fact]] = ()
    machines: Sequence[StateMachine] = ()
    title: str = ""
    sql: str = ""
    api: Callable[[Any], Sequence[Any]] | None = None
    mounts: Callable[[Any], Mapping[str, Any]] | None = None
    gateway: Callable[[Any], Awaitable[Any]] | None = None
    on_start: Callable[[Any], Awaitable[None]] | None = None
    upkeep: Callable[[Any], Awaitable[None]] | None = None
    upkeep_every_s: float = 60.0
    alarms: Callable[[Any], Awaitable[Mapping[str, str]]] | None = None
    personal: bool = False
    logged: Callable[[Message], Mapping[str, str]] | None = None

    def __post_init__(self) -> None:
        """Raises TypeError: a declaration that cannot run."""
        _require_several(self.name, "subscriptions", self.subscriptions, Subscription)
        _require_several(self.name, "publishes", self.publishes, str)
        _require_several(self.name, "tables", self.tables, type)
        _require_several(self.name, "machines", self.machines, StateMachine)
        for each in self.tables:
            _require_columns(each)

    @property
    def reads(self) -> Sequence[str]:
        """The topics of its subscriptions, each once."""
        return tuple(dict.fromkeys(topic for each in self.subscriptions for topic in each.topics))

    def unreadable(self) -> Sequence[type[Message]]:
        """The events that it decides, but cannot read: its catalogue lacks them."""
        return [each for each in self.handlers if issubclass(each, Event) and each not in self.catalogue.types]

    def unread(self) -> frozenset[bytes]:
        """The wire names of the events that are in its catalogue and have no handler."""
        types = (each for each in self.catalogue.types if issubclass(each, Event) and each not in self.handlers)
        return frozenset(wire_name(each).encode() for each in types)
