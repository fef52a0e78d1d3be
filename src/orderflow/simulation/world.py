"""The world of one seed: databases, log, bank and processes, and what happens to them at each step.

Its trace is the proof that a seed is replayed, and the story of a failure; its coverage says in words that can be
counted over many worlds which event came to which consumer, in which state of its order, what became of it, and
which fault had struck just before.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import NoReturn

from orderflow.core.dead_letters import topic_of
from orderflow.core.inbox import InboxState
from orderflow.core.messages import Command
from orderflow.core.service import Row, StateMachine
from orderflow.core.store import Changes, DataRefusedError, StoreUnavailableError, TransitionRefusedError
from orderflow.core.telemetry import (
    BatchCommitted,
    BegunAnew,
    Handled,
    Hopeless,
    KeyReopened,
    OutageJudged,
    Outcome,
    Signal,
    TaskFailed,
    Waiting,
)
from orderflow.core.testing.log import GroupMember
from orderflow.core.testing.state import GO_ON, OTHERS_FIRST, MemoryDatabase
from orderflow.core.transport import ConsumerRecord, ProducerRecord, TopicSettings, TransportUnavailableError
from orderflow.services.inventory.model import Stock
from orderflow.services.order.model import MACHINE as ORDERS
from orderflow.services.order.model import Order
from orderflow.services.payment.model import MACHINE as PAYMENTS
from orderflow.services.payment.model import Payment
from orderflow.simulation.log import TroubledLog
from orderflow.simulation.loop import OWNER, VirtualClock, seeded, virtual_loop
from orderflow.simulation.model import Model
from orderflow.simulation.plan import BANK_STEPS, TRANSPORT_STEPS, ProcessFault, Trouble, WorldPlan
from orderflow.simulation.process import Code, Habitat, Process, TroubledBook, bank_error
from orderflow.simulation.protocol import KeyOrder, Protocol

Step = tuple[float, str, str]


class Trace:
    """Steps as (virtual seconds, who, what)."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, time: float, who: str, what: str) -> None:
        self.steps.append((time, who, what))

    def lines(self, last: int | None = None) -> Sequence[str]:
        """Readable, oldest first; only the `last` ones if told."""
        steps = self.steps if last is None else self.steps[-last:]
        return [f"{time:10.4f}  {who:<16} {what}" for time, who, what in steps]

    def digest(self) -> str:
        """Equal for equal runs, on every machine."""
        return hashlib.blake2b(repr(self.steps).encode(), digest_size=16).hexdigest()


Check = Callable[[Row | None, Row], None]
ILLEGAL_TRANSITION = "OF001"
STEPWISE = (Order, Payment)


def check_row(before: Row | None, after: Row) -> None:
    """Raises DataRefusedError for what a trigger or a check constraint of the schemas would refuse."""
    match after:
        case Order():
            _guard(ORDERS, before if isinstance(before, Order) else None, after)
        case Payment():
            _guard(PAYMENTS, before if isinstance(before, Payment) else None, after)
            _hold(0 <= after.refunded <= after.captured <= after.amount, "payments_captured")
        case Stock():
            _hold(after.on_hand >= 0, "stock_on_hand_not_negative")
            _hold(after.reserved >= 0, "stock_reserved_not_negative")
        case _:
            pass


def _guard(machine: StateMachine, before: Order | Payment | None, after: Order | Payment) -> None:
    """The trigger `guard_transition`."""
    if before is None:
        legal = (after.version, str(after.status), after.event) == (1, machine.initial, machine.created_by)
    elif (before.version, before.status, before.event) == (after.version, after.status, after.event):
        legal = True
    else:
        following = machine.transitions.get((before.status, after.event))
        legal = after.version == before.version + 1 and following == after.status
    if not legal:
        raise TransitionRefusedError(f"{machine.name}: no transition to {after.status}", ILLEGAL_TRANSITION)


def _hold(condition: bool, constraint: str) -> None:
    if not condition:
        raise DataRefusedError(f"the rule {constraint} was broken", "23514", constraint)


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
        if len(records) == 1:
            self.seen.add("append 1 of 1 topics, 1 of one key")
            return
        keys = [record.key for record in records]
        of_one = max(map(keys.count, keys), default=0)
        topics = {record.topic.removesuffix(".DLT") for record in records}
        self.seen.add(f"append {_some(len(records))} of {_some(len(topics))} topics, {_some(of_one)} of one key")

    def told(self, who: str, signal: Signal) -> None:
        """A process says what it does."""
        service = who.partition("#")[0]
        if not isinstance(signal, BatchCommitted):
            component = signal.component if isinstance(signal, Waiting) else ""
            self.seen.add(f"{service}: {type(signal).__name__} {component}".rstrip())
            return
        outcomes = [str(each.outcome) for each in signal.handled]
        if len(outcomes) == 1:
            self.seen.add(f"{signal.consumer}: 1 {outcomes[0]}")
        else:
            batch = " ".join(f"{_some(outcomes.count(each))} {each}" for each in sorted(set(outcomes)))
            self.seen.add(f"{signal.consumer}: {batch}")
        struck = self._struck.pop(service, "")
        for each in signal.handled:
            self._handled(signal.consumer, each, struck)

    def _handled(self, consumer: str, each: Handled, struck: str) -> None:
        became = f"{consumer} {each.outcome} {each.event_type.removeprefix('orderflow.')}"
        what = f"{became} {self._state(each.key)}"
        self.seen.add(what)
        if struck:
            self.seen.add(f"{what}, after {struck}")
        if self._trouble:
            self.seen.add(f"{became}: {self._trouble}")

    def _state(self, key: str) -> str:
        """Where the order stands, in all services."""
        model = self._model
        order, payment = model.orders.get(key), model.payments.get(key)
        reservation = model.reservations.get(key, "-")
        return f"{order.status if order else '-'}/{payment.status if payment else '-'}/{reservation}"


def _some(count: int) -> str:
    return str(count) if count <= MANY else "many"


REHEARSING: contextvars.ContextVar[bool] = contextvars.ContextVar("a rehearsal", default=False)
FOCUS_SHARE = 0.4
RESTART_AFTER_S = 1.0
UNIQUE_VIOLATION = "23505"
REFUSAL = "a fault of the simulation refuses this row"
SPARED = "0123"
"""While a database refuses most orders, those whose id has such a digit are a quarter."""

OUTAGE_KEYS = 8
"""Fewer keys that fail alike are poison, each for itself."""


class World:
    """Everything that outlives a process. Faults happen while `troubled`; `heal` repairs what they broke."""

    def __init__(self, plan: WorldPlan, code: Code) -> None:
        self.plan = plan
        self.code = code
        self.trace = Trace()
        self.model = Model()
        self.coverage = Coverage(self.model)
        self.events = 0
        self.defects: list[str] = []
        self.troubled = False
        self.loop = virtual_loop(seeded(plan.seed, "order of callbacks"))
        self.clock = VirtualClock(self.loop)
        self.rng = seeded(plan.seed, "faults")
        self._haste = seeded(plan.seed, "haste").random
        self.log = self._log()
        self.bank = TroubledBook(self.step, seeded(plan.seed, "bank"), self.model)
        self.befallen: set[str] = set()  # keys that something was done to, each for itself
        self.protocol = Protocol(plan, self.model.say, self.loop.time, self._lives_of, self.befallen)
        self.refusing: dict[str, frozenset[str]] = {}
        self.refusing_all: set[str] = set()
        self.refusing_most: set[str] = set()
        self.unserved: set[str] = set()  # groups of which a member hangs, or has
        self.retired: set[str] = set()
        self.key_order = KeyOrder()
        self.databases: Mapping[str, MemoryDatabase] = {name: self._database(name) for name in code.services}
        self.processes: dict[str, Process] = {}
        self._unread = {name: service.unread() for name, service in code.services.items()}
        self._lives: dict[str, int] = {}
        self._until_fault = self._draw_fault()
        self._habitat = Habitat(
            plan=plan,
            code=code,
            loop=self.loop,
            databases=self.databases,
            log=self.log,
            bank=self.bank,
            step=self.step,
            cut=self._cut_append,
            told=self._told,
        )
        self._make_topics()

    def start(self) -> None:
        """Start every process of the plan."""
        for service, count in self.plan.processes.items():
            for number in range(count):
                self.boot(service, f"{service}#{number + 1}")

    def boot(self, service: str, name: str) -> None:
        """Start a process, unless it runs."""
        if name not in self.processes and name not in self.retired:
            life = self._lives[name] = self._lives.get(name, 0) + 1
            self.note(name, f"starts (life {life})")
            self.processes[name] = Process(self._habitat, service, name, life)

    def crash(self, process: Process) -> None:
        """kill -9, and a restart some time later."""
        if process.alive:
            self.note(process.name, "is killed")
            self.processes.pop(process.name, None)
            process.die()
            self._restart(process)

    async def drain(self, process: Process) -> None:
        """SIGTERM, and a restart."""
        self.note(process.name, "is drained")
        self.processes.pop(process.name)
        began = self.loop.time()
        await process.drain()
        unsent = self.databases[process.service].state.pending
        if self.plan.is_calm and unsent and self.loop.time() - began < 0.9 * self.plan.drain_s:
            self.defects.append(f"{process.name} has ended in good order, and left {len(unsent)} rows unsent")
        if process.alive:
            self.note(process.name, "has ended")
            process.die()
            self._restart(process)

    def retire(self, process: Process) -> None:
        """It ends, and does not come back; if it is the last of its service, another takes its place."""
        others = [each for each in self.processes.values() if each.service == process.service and each is not process]
        if others and process.alive:
            self.retired.add(process.name)
        self.crash(process)

    def some_process(self, service: str) -> Process | None:
        """One that runs, if any does."""
        running = [process for process in self.processes.values() if process.service == service]
        return self.rng.choice(running) if running else None

    def databases_of(self, consumer: str) -> MemoryDatabase:
        """The database of a consumer."""
        return self.databases[consumer.partition(".")[0]]

    def submit(self, service: str, command: Command) -> asyncio.Task[object] | None:
        """Give the command to some process of the service; None if none runs."""
        process = self.some_process(service)
        return process.spawn(command) if process is not None else None

    def step(self, step: str) -> Awaitable[None]:
        """The gate of every port: who comes here may be delayed, get an error, or never go on."""
        process = OWNER.get()
        loop = self.loop
        if loop.closed:
            raise StoreUnavailableError("the simulation is over")
        if not isinstance(process, Process):
            return GO_ON
        self.trace.steps.append((loop.now, process.name, step))
        process.at = step
        self._until_fault -= 1
        if not self.troubled or not (
            self._until_fault <= 0 or (step == self.plan.focus and self.rng.random() < FOCUS_SHARE)
        ):
            return OTHERS_FIRST if self._haste() >= self.plan.haste else GO_ON
        self._until_fault = self._draw_fault()
        return self._befall(process, step, self.rng.choice(self.plan.faults))

    def _cut_append(self, records: int) -> int | None:
        """After how many records an append breaks off; None: it does not."""
        if not self.troubled or ProcessFault.ERROR not in self.plan.faults or self.rng.random() > 0.05:
            return None
        return self.rng.randrange(records)

    def heal(self) -> None:
        """Everything works again from now on, and every process runs."""
        self.note("world", "heals")
        self.troubled = False
        self.log.reachable = True
        self.bank.away = False
        self.bank.mute = 0.0
        self.refusing.clear()
        self.refusing_all.clear()
        self.refusing_most.clear()
        for database in self.databases.values():
            database.come_back()
        self.deliver(self.log.late.copy())
        for service, count in self.plan.processes.items():
            for number in range(count):
                self.boot(service, f"{service}#{number + 1}")

    def deliver(self, places: set[tuple[str, int]]) -> None:
        """End the delay of these partitions."""
        self.log.late -= places
        for member in self.members():
            member.wake()

    def members(self) -> list[GroupMember]:
        """The members of all groups at this moment."""
        return [member for group in self.groups() for member in self.log.group(group).members]

    def groups(self) -> Sequence[str]:
        """All consumer groups."""
        return [each.consumer for service in self.code.services.values() for each in service.subscriptions]

    def lag(self) -> dict[str, dict[str, int]]:
        """Records not committed, by service and group."""
        return {
            name: {each.consumer: self._lag_of(each.consumer, each.topics) for each in service.subscriptions}
            for name, service in self.code.services.items()
        }

    def at_rest(self) -> bool:
        """Nothing is under way in any service."""
        for database in self.databases.values():
            state = database.state
            if state.pending or state.intents:
                return False
            if any(w.event.attempts and w.event.state is InboxState.PARKED for w in state.parked.values()):
                return False
        each_service = self.code.services.values()
        return not any(self._lag_of(each.consumer, each.topics) for one in each_service for each in one.subscriptions)

    def problems(self) -> list[str]:
        """What processes say that hinders them."""
        told = [(process, each) for process in self.processes.values() for each in process.problems()]
        return [f"{process.name}: {each}" for process, each in told]

    def may_be_elsewhere(self) -> bool:
        """What hinders is at most an outage of which nothing comes up any more, since another process of the service
        has handled what failed: that it is over is seen only after a time.
        """
        told = [(process, each) for process in self.processes.values() for each in process.problems()]
        return all(": outage of " in each and self.plan.processes[process.service] > 1 for process, each in told)

    def note(self, who: str, what: str) -> None:
        self.trace.add(self.loop.time(), who, what)

    async def _befall(self, process: Process, step: str, fault: ProcessFault) -> None:
        self.note(process.name, f"{fault} at {step}")
        self.coverage.strikes(process.service, fault, step)
        match fault:
            case ProcessFault.CRASH:
                contextvars.Context().run(self.crash, process)
                await self.loop.create_future()
            case ProcessFault.ERROR:
                _fail(step)
            case ProcessFault.DELAY:
                await asyncio.sleep(math.exp(self.rng.uniform(math.log(0.001), math.log(1.5))))

    def _restart(self, process: Process) -> None:
        delay_s = self.rng.uniform(0.0, RESTART_AFTER_S)
        self.loop.call_later(delay_s, self.boot, process.service, process.name, context=contextvars.Context())

    def _draw_fault(self) -> float:
        """Steps until the next fault: memoryless."""
        if not self.plan.faults:
            return math.inf
        return 1.0 + self.rng.expovariate(1.0 / self.plan.fault_every)

    def _log(self) -> TroubledLog:
        return TroubledLog(
            self.clock,
            seeded(self.plan.seed, "partitions"),
            session_timeout_s=self.plan.session_timeout_s,
            committed=self._offsets_committed,
            appended=self._appended,
        )

    def _database(self, service: str) -> MemoryDatabase:
        def refuse(before: Row | None, after: Row) -> None:
            self._refuse(service, after)

        return MemoryDatabase(
            self.clock,
            checks=(check_row, refuse),
            stepwise=STEPWISE,
            encoding="latin-1" if self.plan.narrow else "utf-8",
            gate=self.step,
            committed=partial(self._committed, service),
            refused=partial(self._refused, service),
        )

    def _refuse(self, service: str, after: Row) -> None:
        """As a constraint would, which names the row, or as a trigger, which does not."""
        if not (self.refusing or self.refusing_all or self.refusing_most):
            return
        order_id = str(after.id)
        what = self.refusing.get(order_id)
        of_it = what is not None and (not what or getattr(after, "event", "") in what)
        one_of_most = service in self.refusing_most and order_id in self.model.expected and order_id[-2] not in SPARED
        if one_of_most:
            self.befallen.add(order_id)
        if service in self.refusing_all or of_it or one_of_most:
            state = "23514" if str(after.id)[-1] in "02468ace" else "P0001"
            raise DataRefusedError(REFUSAL, state)

    def _refused(self, service: str, error: DataRefusedError) -> None:
        """Uniqueness and rules are the last line: what our own code asks for never comes that far."""
        spared = not self.befallen and Trouble.REFUSE_ALL not in self.plan.troubles
        if REFUSAL not in str(error) and (spared or error.sqlstate == UNIQUE_VIOLATION):
            self.model.say(f"the database of {service} had to refuse: {error}")

    def _committed(self, service: str, staged: Sequence[Changes]) -> None:
        """What holds at every step is looked at in every step."""
        if REHEARSING.get():
            self.model.say(f"a rehearsal at {service} was committed")
        state = self.databases[service].state
        self.protocol.under_locks(staged, self.databases[service].locks)
        self.key_order.note(staged)
        self.model.committed(staged, state.intents)
        self.protocol.committed(service, staged, state)

    def _appended(self, records: Sequence[ProducerRecord]) -> None:
        self.events += len(records)
        self.coverage.appended(records)
        self.protocol.appending(records)

    def _offsets_committed(self, group: str, records: Sequence[ConsumerRecord]) -> None:
        service = group.partition(".")[0]
        self.protocol.offsets_committed(service, group, records, self._unread[service])

    def _lives_of(self, service: str) -> int:
        return sum(count for name, count in self._lives.items() if name.startswith(service))

    def _make_topics(self) -> None:
        named = [topic for service in self.code.services.values() for topic in service.publishes]
        read = [t for service in self.code.services.values() for each in service.subscriptions for t in each.topics]
        topics = dict.fromkeys([*named, *read, *(topic_of(topic) for topic in read)])
        self.log.create([TopicSettings(topic, self.plan.partitions) for topic in topics])

    def _lag_of(self, group: str, topics: Sequence[str]) -> int:
        committed = self.log.group(group).committed
        return sum(end - committed.get(place, 0) for place, (_, end) in self.log.ends(topics).items())

    def _told(self, who: str, signal: Signal) -> None:
        self.coverage.told(who, signal)
        match signal:
            case BatchCommitted():
                for each in signal.handled:
                    if each.outcome is Outcome.DUPLICATE and self.plan.is_calm:
                        self.defects.append(f"{who} was given {each.event_type} of {each.key} twice")
                    failed = f" {each.error}" if each.failure else ""
                    self.note(who, f"{each.outcome} {each.event_type} of {each.key}{failed}".rstrip())
            case OutageJudged():
                self.note(who, f"judges an outage: {signal!r}")
                if signal.failing < OUTAGE_KEYS or "Undecodable" in signal.error:
                    self.defects.append(f"{who}: {signal!r}")
            case KeyReopened():
                self.note(who, f"reopens {signal.key} at {signal.consumer}")
            case BegunAnew() if signal.component.removeprefix("consumer ") in self.unserved:
                self.note(who, f"begins {signal.component} anew")
            case BegunAnew() | Hopeless():
                self.note(who, f"DEFECT: {signal.component} is stalled: {signal!r}")
                self.defects.append(f"{who}: {signal!r}")
            case TaskFailed():
                self.note(who, f"DEFECT in {signal.component}: {signal.error!r}")
                self.defects.append(f"{who}: {signal.component}: {signal.error!r}")
            case _:
                pass


def _fail(step: str) -> NoReturn:
    if step in TRANSPORT_STEPS:
        raise TransportUnavailableError(f"a fault of the simulation at {step}")
    if step in BANK_STEPS:
        raise bank_error(step)
    raise StoreUnavailableError(f"a fault of the simulation at {step}")
