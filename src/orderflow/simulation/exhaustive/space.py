"""All states of the four services, the log and the bank together, and every step from one to the next.

A state is a handful of small numbers: what each service has stored, what each consumer has not read yet, the bank's
book, the answers under way, and how much may still go wrong. Each number stands for a value that is kept once. So the
production code runs once for each thing stored and each message, and the search puts the results together.

Between two topics, and between two orders, there is no order of delivery; within a topic and an order there is. A
crash falls between two transactions: before a commit nothing has happened, after it the same comes again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from enum import IntEnum
from itertools import product
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from orderflow.core.dead_letters import FLOW_STATUS
from orderflow.core.decisions import is_ignored
from orderflow.core.envelopes import Incoming, Result, from_answer, from_command, from_record
from orderflow.core.identity import uuid5
from orderflow.core.inbox import InboxState, ParkedEvent
from orderflow.core.messages import Command
from orderflow.core.service import Service
from orderflow.core.store import OutboxRecord
from orderflow.core.transport import ConsumerRecord
from orderflow.registry import SAGA
from orderflow.services.payment.messages import SettlementOutcome, SettlePayment
from orderflow.simulation.exhaustive.promises import PromiseCheck, Tables, View, payments_of
from orderflow.simulation.exhaustive.setting import BankReply, Booked, Bounds, Setting, answer_of, true_words
from orderflow.simulation.exhaustive.stored import (
    Stored,
    Taken,
    discard_head,
    edit_head,
    take,
    take_parked,
    was_made_to_fail,
)
from orderflow.simulation.process import Code

State = tuple[int, ...]
Queue = tuple[tuple[tuple[str, str], tuple[int, ...]], ...]
"""What a consumer has not read: by topic and order."""

SERVICES = SAGA
ORDER, PAYMENT, INVENTORY, NOTIFICATION = range(4)
CONSUMERS = ("order", "order.flow", "payment", "inventory", "notification")
TRUSTING = ("payment", "inventory")
"""Who knows nothing of an order before the event that it is told of it by; the others compare."""

READERS = (ORDER, ORDER, PAYMENT, INVENTORY, NOTIFICATION)
"""Which service each consumer belongs to."""

ASKED = ("CHARGING", "UNKNOWN", "REFUND_DUE")
FREE, FAILURE, OVERTAKING = -1, Bounds._fields.index("failures"), Bounds._fields.index("overtakes")
"""What a delivery costs: nothing, or one of these bounds."""

FIRST_QUEUE = len(SERVICES)
BOOK, FLIGHT, LEFT = range(9, 12)
T = TypeVar("T")


class StepKind(IntEnum):
    """Who takes a step: the system by itself, a shop or whoever counts stock, chance, or an operator."""

    SYSTEM = 0
    SHOP = 1
    FAULT = 2
    OPERATOR = 3


class Move(NamedTuple):
    """A step to `after`; `broken` are sentences about what must not be."""

    kind: StepKind
    what: str
    after: State
    broken: Sequence[str] = ()


class ServiceStep(NamedTuple):
    """What a service makes of something: the numbers of what it has stored then, and of what it has published."""

    after: int
    sent: int
    broken: Sequence[str]
    fate: str


class SettlementStep(NamedTuple):
    """An operator's word. `book` is the bank's then; None: he is wrong. `is_open`: the bank is being asked."""

    what: str
    step: ServiceStep
    outcome: SettlementOutcome
    book: int | None
    is_open: bool


class Interned(Generic[T]):
    """Values by number; values with equal keys have one number."""

    def __init__(self, key: Callable[[T], Hashable]) -> None:
        self._key = key
        self._numbers: dict[Hashable, int] = {}
        self._values: list[T] = []

    def number(self, value: T) -> int:
        key = self._key(value)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._values)
            self._values.append(value)
        return number

    def __getitem__(self, number: int) -> T:
        return self._values[number]

    def __len__(self) -> int:
        return len(self._values)


class Space:
    """Gives the first state, and the moves from any. Deliveries again that change nothing are counted, not given."""

    def __init__(self, setting: Setting, code: Code) -> None:
        self.delivered_again = 0
        self._setting = setting
        self._services = [code.services[name] for name in SERVICES]
        self._names = setting.names()
        self._judge = PromiseCheck(setting)
        self.stored: Interned[Stored] = Interned(Stored.canonical)
        self._books: Interned[frozenset[Booked]] = Interned(lambda book: book)
        self._left: Interned[Bounds] = Interned(lambda left: left)
        self._messages: Interned[ConsumerRecord | Incoming] = Interned(_canonical)
        self._queues: Interned[Queue] = Interned(lambda queue: queue)
        self._sent: Interned[tuple[int, ...]] = Interned(lambda sent: sent)
        self._flights: Interned[frozenset[int]] = Interned(lambda flight: flight)
        self._steps: dict[Hashable, ServiceStep] = {}
        self._pushed: dict[tuple[int, int, int], int] = {}
        self._menus: dict[Hashable, Sequence[Any]] = {}
        self._decoded: dict[tuple[int, int], Incoming] = {}
        self._tables: dict[int, Tables] = {}
        self._odd: dict[tuple[int, int], tuple[int, Sequence[tuple[str, ServiceStep]]]] = {}
        self._flown: dict[tuple[int, int], int] = {}
        self._judged: dict[Hashable, Sequence[str]] = {}
        self._read_all = self._queues.number(())
        self.first = self._first()

    def moves(self, state: State) -> Iterator[Move]:
        """Every step that can be taken now."""
        left = self._left[state[LEFT]]
        yield from self._deliveries(state, left)
        yield from self._retries(state, left)
        yield from self._at_the_bank(state, left)
        yield from self._answers(state, left)
        yield from self._shops(state, left)
        yield from self._operators(state, left)
        for service in range(len(SERVICES)):
            count, odd = self._again(service, state[service])
            self.delivered_again += count
            for what, step in odd:
                yield Move(StepKind.FAULT, what, self._after(state, service, step), step.broken)

    def at_rest(self, state: State) -> bool:
        """Nothing is under way: all is read, no question is open, nothing is to be tried again."""
        if any(state[FIRST_QUEUE + place] != self._read_all for place in range(len(CONSUMERS))):
            return False
        return not any(self._tables_of(state[service]).is_busy for service in range(len(SERVICES)))

    def broken(self, state: State, *, at_rest: bool) -> Sequence[str]:
        """What is not as it must be in this state."""
        about = (*state[: len(SERVICES)], state[BOOK], at_rest, *self._allowances(state))
        found = self._judged.get(about)
        if found is None:
            found = self._judged[about] = [self._named(each) for each in self._judge.state(self.view(state), at_rest)]
        return found

    def has_ended(self, state: State) -> bool:
        """Every order that was placed is at its end, and its money is where it belongs."""
        return self._judge.has_ended(self.view(state))

    def is_abandoned(self, state: State) -> bool:
        """An operator has given something up: whether the orders end is up to him now."""
        return self._allowances(state)[0]

    def view(self, state: State) -> View:
        order, payment, inventory, notification = map(self._tables_of, state[:FIRST_QUEUE])
        given_up, mistaken = self._allowances(state)
        book = self._books[state[BOOK]]
        return View(order, payment, inventory, notification, book, given_up=given_up, mistaken=mistaken)

    def _allowances(self, state: State) -> tuple[bool, bool]:
        left, bounds = self._left[state[LEFT]], self._setting.bounds
        return left.discards < bounds.discards, left.mistakes < bounds.mistakes

    # What can happen at each part; the rest of the state does not matter to it, so it is found out once

    def _deliveries(self, state: State, left: Bounds) -> Iterator[Move]:
        for place in range(len(CONSUMERS)):
            service, queue = READERS[place], state[FIRST_QUEUE + place]
            for cost, what, step, rest in self._menu(self._read, place, state[service], queue):
                if cost == FREE:
                    after = self._after(state, service, step, (place, rest))
                    yield Move(StepKind.SYSTEM, what, after, step.broken)
                elif left[cost]:
                    after = self._after(state, service, step, (place, rest), _spent(left, cost))
                    yield Move(StepKind.FAULT, what, after, step.broken)

    def _read(self, place: int, stored: int, number: int) -> Iterator[tuple[int, str, ServiceStep, int]]:
        """What can be read next, at what cost. Notices of what is stuck are read in their order."""
        consumer, service, queue = CONSUMERS[place], READERS[place], self._queues[number]
        for where, messages in queue:
            named, rest = self._label(messages[0]), self._without(number, where, 0)
            step = self._take(service, stored, consumer, messages[:1])
            yield FREE, f"{consumer} takes {named}: {step.fate}", step, rest
            step = self._take(service, stored, consumer, messages[:1], failing=True)
            yield FAILURE, f"{consumer} fails over {named}: {step.fate}", step, rest
            if len(messages) > 1 and where[0] != FLOW_STATUS:
                step = self._take(service, stored, consumer, messages[1:2])
                what = f"{consumer} takes {self._label(messages[1])} before {named}: {step.fate}"
                yield OVERTAKING, what, step, self._without(number, where, 1)
        if len(queue) > 1:
            batch = tuple(message for _, messages in queue for message in messages)
            step = self._take(service, stored, consumer, batch)
            named = " and ".join(map(self._label, batch))
            yield FREE, f"{consumer} takes {named} in one batch: {step.fate}", step, self._read_all

    def _without(self, queue: int, where: tuple[str, str], place: int) -> int:
        waiting = dict(self._queues[queue])
        waiting[where] = waiting[where][:place] + waiting[where][place + 1 :]
        return self._queues.number(tuple(each for each in waiting.items() if each[1]))

    def _retries(self, state: State, left: Bounds) -> Iterator[Move]:
        for service in range(len(SERVICES)):
            menu = self._menu(self._retry_heads, service, state[service])
            yield from self._as_handled(menu, service, state, left)

    def _as_handled(
        self, menu: Iterable[tuple[StepKind, str, ServiceStep]], service: int, state: State, left: Bounds
    ) -> Iterator[Move]:
        """Each as it is; with a failing handler only as long as handlers may still fail."""
        for kind, what, step in menu:
            if kind is StepKind.SYSTEM:
                yield Move(kind, what, self._after(state, service, step), step.broken)
            elif left.failures:
                fewer = left._replace(failures=left.failures - 1)
                yield Move(kind, what, self._after(state, service, step, left=fewer), step.broken)

    def _retry_heads(self, service: int, stored: int) -> Iterator[tuple[StepKind, str, ServiceStep]]:
        for consumer, head in self.stored[stored].heads():
            if head.state is InboxState.PARKED:
                what = f"what {consumer} has parked of {self._names[head.key]} is tried again"
                step = self._retry(service, stored, consumer, head.key)
                yield StepKind.SYSTEM, f"{what}: {step.fate}", step
                step = self._retry(service, stored, consumer, head.key, failing=True)
                yield StepKind.FAULT, f"{what}, and fails again: {step.fate}", step

    def _at_the_bank(self, state: State, left: Bounds) -> Iterator[Move]:
        for what, book, answer, in_time in self._menu(self._asked, state[PAYMENT], state[BOOK]):
            flight = self._fly(state[FLIGHT], answer, state[PAYMENT])
            if in_time:
                yield Move(StepKind.SYSTEM, what, (*state[:BOOK], book, flight, state[LEFT]))
                if book != state[BOOK]:
                    yield Move(
                        StepKind.FAULT, f"{what}, and who asks is killed", (*state[:BOOK], book, *state[FLIGHT:])
                    )
            elif left.time_outs:
                fewer = self._left.number(left._replace(time_outs=left.time_outs - 1))
                yield Move(
                    StepKind.FAULT, f"{what}, and does not answer in time", (*state[:BOOK], book, flight, fewer)
                )

    def _asked(self, payment: int, book: int) -> Iterator[tuple[str, int, int, bool]]:
        """What the bank can do of each open question: how its book is then, and its answer."""
        for asked in self.stored[payment].intents.values():
            for act, in_time in product(BankReply, (True, False)):
                if act is not BankReply.BOOKS_NOTHING or not in_time:
                    then, answer = answer_of(self._books[book], asked.intent, act, in_time=in_time)
                    message = self._messages.number(from_answer(answer, asked, "/orderflow/payment"))
                    what = f"the bank is asked for the {self._named(asked.intent.key)}, {act}"
                    yield what, self._books.number(then), message, in_time

    def _answers(self, state: State, left: Bounds) -> Iterator[Move]:
        menu = self._menu(self._heard, state[PAYMENT], state[FLIGHT])
        yield from self._as_handled(menu, PAYMENT, state, left)

    def _heard(self, payment: int, flight: int) -> Iterator[tuple[StepKind, str, ServiceStep]]:
        for answer in sorted(self._flights[flight]):
            named = self._label(answer)
            step = self._take(PAYMENT, payment, "payment", (answer,))
            yield StepKind.SYSTEM, f"payment takes the bank's answer {named}: {step.fate}", step
            step = self._take(PAYMENT, payment, "payment", (answer,), failing=True)
            yield StepKind.FAULT, f"payment fails over the bank's answer {named}: {step.fate}", step

    def _shops(self, state: State, left: Bounds) -> Iterator[Move]:
        for what, step in self._menu(self._orders, state[ORDER]):
            yield Move(StepKind.SHOP, what, self._after(state, ORDER, step), step.broken)
        if left.counts:
            command = self._setting.counted
            step = self._command(INVENTORY, state[INVENTORY], command)
            after = self._after(state, INVENTORY, step, left=left._replace(counts=left.counts - 1))
            yield Move(StepKind.SHOP, f"somebody counts {command.on_hand} {command.sku}", after, step.broken)

    def _orders(self, stored: int) -> Iterator[tuple[str, ServiceStep]]:
        """What shops ask for; what they ask for again has to change nothing."""
        for shop in self._setting.shops:
            is_there = self._judge.is_placed(self._tables_of(stored), shop)
            for command in (shop.again, shop.other) if is_there else (shop.first,):
                step = self._command(ORDER, stored, command)
                if step.after != stored or step.broken:
                    yield f"the shop asks for {shop.letter}{' once more' if is_there else ''}: {step.fate}", step

    def _operators(self, state: State, left: Bounds) -> Iterator[Move]:
        for service in range(len(SERVICES)):
            for what, step, gives_up in self._menu(self._letters, service, state[service]):
                if left.discards or not gives_up:
                    fewer = left._replace(discards=left.discards - gives_up)
                    yield Move(StepKind.OPERATOR, what, self._after(state, service, step, left=fewer), step.broken)
        settlements = self._menu(self._settlements, state[PAYMENT], state[BOOK], left.asks)
        for what, step, outcome, book, is_open in settlements:
            fewer = _fewer(left, outcome, is_open=is_open, is_right=book is not None)
            if min(fewer) >= 0 or step.broken:
                after = self._after(state, PAYMENT, step, left=fewer)
                then = (*after[:BOOK], state[BOOK] if book is None else book, *after[FLIGHT:])
                yield Move(StepKind.OPERATOR, what, then, step.broken)

    def _letters(self, service: int, stored: int) -> Iterator[tuple[str, ServiceStep, bool]]:
        """An operator replays what was made to fail, or gives it up. What can only fail again, he discards."""
        for consumer, head in self.stored[stored].heads():
            if head.state is InboxState.DEAD:
                what = f"{_short(head.event_type)} of {self._names[head.key]} at {consumer}"
                can_succeed = was_made_to_fail(head)
                if can_succeed:
                    step = self._act(service, stored, consumer, head, _replay)
                    yield f"an operator replays {what}", step, False
                    step = self._act(service, stored, consumer, head, edit_head)
                    if step.after != stored and consumer in TRUSTING:
                        yield f"an operator doubles the amounts in {what}, and replays it", step, False
                yield (
                    f"an operator discards {what}",
                    self._act(service, stored, consumer, head, discard_head),
                    can_succeed,
                )

    def _settlements(self, payment: int, book: int, asks: int) -> Iterator[SettlementStep]:
        """What an operator can say and changes something. Wrong words are gone into only where he says that there is
        a charge.
        """
        for row in payments_of(self._tables_of(payment)):
            true = true_words(self._books[book], row)
            for outcome in SettlementOutcome:
                command = SettlePayment(order_id=row.order_id, outcome=outcome)
                step = self._command(PAYMENT, payment, command, asks)
                what = f"an operator settles {self._names[str(row.order_id)]} as {outcome}: {step.fate}"
                is_new = step.after != payment and (outcome in true or outcome is SettlementOutcome.CHARGED)
                if step.broken or is_new:
                    book_then = self._books.number(true[outcome]) if outcome in true else None
                    what += "" if outcome in true else ", and is wrong"
                    yield SettlementStep(what, step, outcome, book_then, row.status in ASKED)

    def _menu(self, of: Callable[..., Iterator[T]], *about: int) -> Sequence[T]:
        found = self._menus.get((of, about))
        if found is None:
            found = self._menus[of, about] = list(of(*about))
        return found

    # One service, asked once for each thing stored and each message

    def _take(
        self, service: int, stored: int, consumer: str, messages: tuple[int, ...], *, failing: bool = False
    ) -> ServiceStep:
        about = (service, stored, consumer, messages, failing)
        step = self._steps.get(about)
        if step is None:
            batch = [self._incoming(service, message) for message in messages]
            before = self.stored[stored]
            taken = take(self._services[service], before, consumer, batch, failing=failing)
            came = before.taken | {(consumer, message) for message in messages}
            after = replace(taken.after, taken=came)
            step = self._steps[about] = self._step(service, stored, after, taken)
        return step

    def _retry(self, service: int, stored: int, consumer: str, key: str, *, failing: bool = False) -> ServiceStep:
        about = (service, stored, consumer, key, failing)
        step = self._steps.get(about)
        if step is None:
            taken = take_parked(self._services[service], self.stored[stored], consumer, key, failing=failing)
            step = self._steps[about] = self._step(service, stored, taken.after, taken)
        return step

    def _command(self, service: int, stored: int, command: Command, number: int = 0) -> ServiceStep:
        about = (service, stored, type(command), msgspec.msgpack.encode(command), number)
        step = self._steps.get(about)
        if step is None:
            name = SERVICES[service]
            event_id = uuid5(f"{command!r}\n{number}")
            incoming = from_command(command, f"/orderflow/{name}", None, event_id)
            taken = take(self._services[service], self.stored[stored], name, [incoming], failing=False)
            step = self._step(service, stored, taken.after, taken)
            told = self._judge.command(command, self.stored[stored], taken)
            step = self._steps[about] = step._replace(broken=[*step.broken, *map(self._named, told)])
        return step

    def _act(
        self,
        service: int,
        stored: int,
        consumer: str,
        head: ParkedEvent,
        act: Callable[[Service, Stored, str, ParkedEvent], Taken],
    ) -> ServiceStep:
        about = (service, stored, consumer, head.key, act)
        step = self._steps.get(about)
        if step is None:
            taken = act(self._services[service], self.stored[stored], consumer, head)
            step = self._steps[about] = self._step(service, stored, taken.after, taken)
        return step

    def _step(self, service: int, before: int, after: Stored, taken: Taken) -> ServiceStep:
        sent = tuple(self._messages.number(_as_read(record)) for record in taken.published)
        told = [self._named(each) for each in self._judge.step(SERVICES[service], self.stored[before], after, taken)]
        fate = ", ".join(_fate(result) for result in taken.results)
        return ServiceStep(self.stored.number(after), self._sent.number(sent), told, self._named(fate))

    def _again(self, service: int, stored: int) -> tuple[int, Sequence[tuple[str, ServiceStep]]]:
        """How many messages can come again, and those that would change anything."""
        found = self._odd.get((service, stored))
        if found is None:
            taken = sorted(self.stored[stored].taken)
            odd = []
            for consumer, message in taken:
                step = self._take(service, stored, consumer, (message,))
                if step.after != stored or self._sent[step.sent] or step.broken:
                    odd.append((f"{consumer} is given {self._label(message)} again: {step.fate}", step))
            found = self._odd[service, stored] = (len(taken), odd)
        return found

    # Putting the parts together

    def _first(self) -> State:
        stored = [self.stored.number(Stored()) for _ in SERVICES]
        for command in self._setting.stock:
            stored[INVENTORY] = self._command(INVENTORY, stored[INVENTORY], command).after
        book, flight = self._books.number(frozenset()), self._flights.number(frozenset())
        return (*stored, *[self._read_all] * len(CONSUMERS), book, flight, self._left.number(self._setting.bounds))

    def _after(
        self,
        state: State,
        service: int,
        step: ServiceStep,
        read: tuple[int, int] | None = None,
        left: Bounds | None = None,
    ) -> State:
        """`read`: the consumer's queue is this one now, before what the step has published."""
        after = list(state)
        after[service] = step.after
        if read is not None:
            after[FIRST_QUEUE + read[0]] = read[1]
        if self._sent[step.sent]:
            for place in range(len(CONSUMERS)):
                after[FIRST_QUEUE + place] = self._push(after[FIRST_QUEUE + place], step.sent, place)
        if left is not None:
            after[LEFT] = self._left.number(left)
        if service == PAYMENT and after[FLIGHT]:
            after[FLIGHT] = self._in_flight(after[FLIGHT], step.after)
        return tuple(after)

    def _push(self, queue: int, sent: int, place: int) -> int:
        found = self._pushed.get((queue, sent, place))
        if found is None:
            waiting = dict(self._queues[queue])
            for message in self._sent[sent]:
                record = self._messages[message]
                assert isinstance(record, ConsumerRecord)
                if self._reads(place, message, record):
                    where = (record.topic, (record.key or b"").decode())
                    waiting[where] = (*waiting.get(where, ()), message)
            found = self._pushed[queue, sent, place] = self._queues.number(tuple(sorted(waiting.items())))
        return found

    def _reads(self, place: int, message: int, record: ConsumerRecord) -> bool:
        """What a consumer passes over changes nothing, whenever it comes: it is left out."""
        consumer = CONSUMERS[place]
        service = self._services[READERS[place]]
        topics = next(each.topics for each in service.subscriptions if each.consumer == consumer)
        return record.topic in topics and not is_ignored(service, self._incoming(READERS[place], message))

    def _fly(self, flight: int, answer: int, payment: int) -> int:
        return self._in_flight(self._flights.number(self._flights[flight] | {answer}), payment)

    def _in_flight(self, flight: int, payment: int) -> int:
        """Answers that the inbox knows would change nothing any more: they are among what is delivered again."""
        found = self._flown.get((flight, payment))
        if found is None:
            inbox = self.stored[payment].inbox
            new = frozenset(
                each
                for each in self._flights[flight]
                if ("payment", *self._incoming(PAYMENT, each).name) not in inbox
            )
            found = self._flown[flight, payment] = self._flights.number(new)
        return found

    def _incoming(self, service: int, message: int) -> Incoming:
        found = self._decoded.get((service, message))
        if found is None:
            value = self._messages[message]
            catalogue = self._services[service].catalogue
            found = value if isinstance(value, Incoming) else from_record(value, catalogue)
            self._decoded[service, message] = found
        return found

    def _tables_of(self, stored: int) -> Tables:
        found = self._tables.get(stored)
        if found is None:
            found = self._tables[stored] = Tables(self.stored[stored])
        return found

    def _label(self, message: int) -> str:
        value = self._messages[message]
        incoming = value if isinstance(value, Incoming) else self._incoming(ORDER, message)
        return f"{_short(incoming.event_type)} of {self._names.get(incoming.key, incoming.key)}"

    def _named(self, text: str) -> str:
        for order_id, letter in self._names.items():
            text = text.replace(order_id, letter)
        return text


def _fewer(left: Bounds, outcome: SettlementOutcome, *, is_open: bool, is_right: bool) -> Bounds:
    if not is_right:
        return left._replace(mistakes=left.mistakes - 1)
    return left._replace(settles=left.settles - is_open, asks=left.asks - (outcome is SettlementOutcome.ASK_AGAIN))


def _spent(left: Bounds, cost: int) -> Bounds:
    return Bounds(*(each - (place == cost) for place, each in enumerate(left)))


def _replay(_: Service, stored: Stored, consumer: str, head: ParkedEvent) -> Taken:
    return Taken(stored.replayed(consumer, head))


def _as_read(record: OutboxRecord) -> ConsumerRecord:
    return ConsumerRecord(record.topic, 0, 0, record.key, record.value, record.headers)


def _canonical(message: ConsumerRecord | Incoming) -> Hashable:
    """An answer is what it says, to which question, asked how often."""
    if isinstance(message, ConsumerRecord):
        return message
    assert message.envelope is not None
    return message.event_type, message.name, msgspec.msgpack.encode(message.envelope)


def _short(event_type: str) -> str:
    return event_type.removeprefix("orderflow.").partition(".v")[0]


def _fate(result: Result) -> str:
    if result.failure is not None:
        return f"{result.outcome} ({result.failure.error}: {result.failure.message})"
    return f"refused ({result.refusal})" if result.refusal is not None else str(result.outcome)
