"""The same random history in memory and in PostgreSQL: whatever one answers otherwise is a difference.

A history is a list of steps, each a name and its arguments, as plain data: so one that fails can be shortened, and
read. Numbers that a store gives (positions, ids, numbers of replays) are compared by their rank, times not at all.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from random import Random
from typing import Any
from uuid import UUID, uuid5

import msgspec
from msgspec.structs import replace

from orderflow.core.failures import Verdict
from orderflow.core.game_days.fault import Fault, FaultKind, FaultStore
from orderflow.core.identity import NAMESPACE
from orderflow.core.inbox import EditedEvent, Failure, InboxEntry, InboxState, ParkedEvent
from orderflow.core.operations.model import Expired, LetterFilter, Overrule, ReplayPlan, ReplayState
from orderflow.core.operations.port import OperatedStore
from orderflow.core.service import Ref
from orderflow.core.store import Act, DataRefusedError, End, LogEntry, OutboxFilter, ParkedQuery, Plan
from tests.conformance.store_tables import Counter, Move, Parcel, ParcelState
from tests.conformance.store_values import CONSUMER, changes, dead, event_id, intent, outgoing, parked
from tests.support.callers import person

KEYS = ("x", "y")
IDENTITIES = ("1", "2", "3")
CONSUMERS = (CONSUMER, "other")
ACT = Act(caller=person("ann"), reason="because")
FOREVER_MS = 3_600_000
FAILURES = tuple(
    Failure("decision", error, "no such thing", f"{error}@model.py:7") for error in ("KeyError", "OSError")
)
Step = tuple[Any, ...]
Queues = Mapping[str, Sequence[ParkedEvent]]


class Side:
    """One store, and the names by which its numbers are compared."""

    def __init__(self, store: OperatedStore, faults: FaultStore) -> None:
        self.store = store
        self.faults = faults
        self.reader = store.outbox()
        self._ranks: dict[str, dict[int, int]] = {}

    async def take(self, step: Step) -> Any:
        """The answer to a step, or the error, as plain data."""
        name, *arguments = step
        try:
            answer = await STEPS[name](self, *arguments)
        except DataRefusedError as error:
            # Which of several faults is told first is nobody's promise.
            return f"refused {type(error).__name__}" if name != "batch" or len(arguments[2]) == 1 else "refused"
        return self.plain(answer)

    async def at(self, consumer: str, key: str, place: int) -> ParkedEvent | None:
        """What is parked there, the head at place 0."""
        async with self.store.transaction() as tx:
            waiting = (await tx.open(Plan(consumer, parked=ParkedQuery([key], 100, due=False)))).parked
        return waiting[place] if place < len(waiting) else None

    def rank(self, kind: str, number: int) -> int:
        ranks = self._ranks.setdefault(kind, {0: 0})
        return ranks.setdefault(number, len(ranks))

    def plain(self, answer: Any, kind: str = "") -> Any:
        """Without times, and numbers by rank."""
        if isinstance(answer, msgspec.Struct):
            fields = {name: getattr(answer, name) for name in answer.__struct_fields__}
        elif dataclasses.is_dataclass(answer):
            fields = {field.name: getattr(answer, field.name) for field in dataclasses.fields(answer)}
        elif isinstance(answer, Mapping):
            return {str(self.plain(name)): self.plain(each) for name, each in sorted(answer.items(), key=str)}
        elif isinstance(answer, (set, frozenset)):
            return sorted(map(str, answer))
        elif isinstance(answer, Sequence) and not isinstance(answer, (str, bytes)):
            return [self.plain(each, kind) for each in answer]
        else:
            return self._scalar(answer, kind)
        return {name: self.plain(each, name) for name, each in fields.items() if name not in UNCOMPARED}

    def _scalar(self, answer: Any, kind: str) -> Any:
        if isinstance(answer, datetime):
            return "a time"
        if kind in TIMES:
            return answer is not None
        if kind in NUMBERS and isinstance(answer, int):
            return self.rank(NUMBERS[kind], answer)
        return str(answer) if isinstance(answer, (UUID, Enum)) else answer


UNCOMPARED = {"created_at", "delay_ms", "oldest_ms", "newest_ms", "age_ms"}
TIMES = {"first_failed_at", "next_attempt_at"}
NUMBERS = {"position": "position", "example": "position", "number": "replay"}


# --- what may be done


async def batch(side: Side, consumer: str, recognises: bool, parts: Sequence[Step], ends: str, locks: bool) -> Any:
    """One unit of work: it looks at what it needs, writes what is wanted, and ends."""
    async with side.store.transaction() as tx:
        wanted = [(key, identity) for key in KEYS for identity in IDENTITIES] if recognises else []
        rows = [Ref(Counter, key) for key in KEYS] + [Ref(Parcel, key) for key in KEYS]
        shows = any(name == "change" for name, *_ in parts)
        query = ParkedQuery(KEYS, 10, due=False) if shows else None
        found = await tx.open(Plan(consumer, wanted, [1, 2] if locks else (), rows, query))
        written = replace_consumer(consumer, found.rows)
        queues = {key: [event for event in found.parked if event.key == key] for key in KEYS}
        for name, *arguments in parts:
            await PARTS[name](side, queues, written, *arguments)
        if ends != "abandoned":
            await tx.commit(written, End.ROLLBACK if ends == "rolled back" else End.COMMIT)
    return replace(found, rows={}), sorted(map(str, found.rows.values()))


def replace_consumer(consumer: str, loaded: Mapping[Ref, Any]) -> Any:
    written = changes(existing=frozenset(loaded))
    written.consumer = consumer
    return written


async def put_inbox(side: Side, queues: Queues, written: Any, key: str, identity: str, state: InboxState) -> None:
    written.inbox.append(InboxEntry(key, identity, event_id(f"{key}/{identity}"), state))


async def put_counter(side: Side, queues: Queues, written: Any, key: str, value: int) -> None:
    written.rows.append(Counter(counter_id=key, value=value))


async def put_parcel(side: Side, queues: Queues, written: Any, key: str, state: ParcelState) -> None:
    written.rows.append(Parcel(parcel_id=key, state=state))


async def put_move(side: Side, queues: Queues, written: Any, key: str, number: int) -> None:
    written.facts.append(Move(parcel_id=key, number=number, place="here"))


async def put_outbox(side: Side, queues: Queues, written: Any, key: str, count: int) -> None:
    written.outbox.append(outgoing(key, b"%d" % count))


async def put_stream(side: Side, queues: Queues, written: Any, key: str, emitted: int) -> None:
    written.emitted["/here", key] = emitted


async def park(side: Side, queues: Queues, written: Any, key: str, identity: str, kind: str) -> None:
    event = {
        "held": lambda: parked(key, identity, attempts=0),
        "failed": lambda: parked(key, identity),
        "later": lambda: parked(key, identity, delay_ms=FOREVER_MS),
        "dead": lambda: dead(key, identity),
    }[kind]()
    written.parked.append(event)
    written.inbox.append(InboxEntry(key, identity, event.event_id, event.state))


async def change(
    side: Side, queues: Queues, written: Any, key: str, place: int, how: str, failure: int, attempts: int
) -> None:
    """What is parked there fails again, is released, or is edited."""
    waiting = queues[key]
    if place >= len(waiting):
        return
    event = waiting[place]
    if how in ("failed", "dead", "later"):
        state = InboxState.DEAD if how == "dead" else InboxState.PARKED
        delay = FOREVER_MS if how == "later" else 0
        again = replace(event, state=state, attempts=attempts, failure=FAILURES[failure] if attempts else None)
        written.reparked.append(replace(again, delay_ms=delay))
        written.inbox.append(InboxEntry(key, event.identity, event.event_id, state))
    elif how == "edited":
        other = uuid5(NAMESPACE, f"{event.event_id}")
        record = replace(event.record, value=b"edited")
        written.edited.append(
            EditedEvent(
                position=event.position,
                event_id=other,
                identity=event.identity + "'",
                event_type="Edited.v1",
                record=record,
                who="ann",
            )
        )
        written.inbox.append(InboxEntry(key, event.identity, event.event_id, InboxState.DISCARDED))
        written.inbox.append(InboxEntry(key, event.identity + "'", other, event.state))
    else:
        written.released.append(event.position)
        written.discarding = ACT if how == "discarded" else None
        state = InboxState.DISCARDED if how == "discarded" else InboxState.DONE
        written.inbox.append(InboxEntry(key, event.identity, event.event_id, state))


async def put_intent(side: Side, queues: Queues, written: Any, key: str, how: str) -> None:
    if how == "closed":
        written.closed_intents.append(f"charge:{key}")
    else:
        target = written.opened if how == "opened" else written.postponed
        target.append(intent(key, attempts=int(how == "postponed")))
        written.lease_ms = 0


async def put_log(side: Side, queues: Queues, written: Any, key: str) -> None:
    written.log.append(LogEntry(ACT, "look", key, "seen"))


NUMBERED = re.compile(r"(?<=^replay )\d+|(?<=^fault )\d+")
"""A replay or a fault in the operators' log: its number goes on from history to history in PostgreSQL."""

PARTS: Mapping[str, Callable[..., Awaitable[None]]] = {
    each.__name__: each
    for each in (
        put_inbox, put_counter, put_parcel, put_move, put_outbox, put_stream, park, change, put_intent, put_log
    )
}  # fmt: skip


async def waiting(side: Side, consumer: str, limit: int) -> Any:
    async with side.store.transaction() as tx:
        first = await tx.open(Plan(consumer, parked=ParkedQuery(KEYS, limit)))
    async with side.store.transaction() as tx:
        second = await tx.open(Plan(consumer, parked=ParkedQuery(KEYS, limit, due=False)))
    return first.parked, second.parked


async def due(side: Side, consumer: str, leaving: Sequence[str]) -> Any:
    keys = await side.store.due_keys(consumer, 10, leaving)
    return sorted(keys), await side.store.parked_keys(consumer, 1), await side.store.parked_keys(consumer, 10)


async def claim_intents(side: Side, lease_ms: int) -> Any:
    return sorted(map(str, map(side.plain, await side.store.claim_intents(10, lease_ms))))


async def relay(side: Side, marked: int) -> Any:
    """Look at what is unsent, and mark the first."""
    await side.reader.claim_slots()
    rows = await side.reader.unsent(10)
    await side.reader.mark_sent([row.id for row in rows[:marked]])
    left = list(side.reader.held)
    return [replace(row, id=0, created_at=0) for row in rows], left, (await side.store.backlog()).unsent


async def republish(side: Side, key: str | None) -> Any:
    wanted = OutboxFilter(key=key)
    return await side.store.published(wanted), await side.store.republish(wanted, ACT, "all")


async def begin_replay(side: Side, places: Sequence[tuple[str, str, int]]) -> Any:
    found = [await side.at(*place) for place in places]
    positions = sorted({event.position for event in found if event})
    return await side.store.recovery.begin_replay(positions, ReplayPlan(), ACT, 3, "all")


async def claim_replay(side: Side, lease_ms: int) -> Any:
    return await side.store.recovery.claim_replay(lease_ms)


async def of_replay(side: Side, number: int, what: str, limit: int) -> Any:
    recovery = side.store.recovery
    replays = await recovery.replays(10)
    if number >= len(replays):
        return None
    which = replays[number].number
    match what:
        case "send":
            return await recovery.send(which, limit)
        case "pause":
            return await recovery.pause_replay(which, ACT, "why")
        case "resume":
            return await recovery.resume_replay(which, ACT)
        case _:
            return await recovery.finish_step(which, limit, ReplayState(what), "so")


async def overrule(side: Side, consumer: str, event_type: str, verdict: str) -> Any:
    said = Overrule(consumer=consumer, event_type=event_type, verdict=Verdict(verdict))
    return await side.store.recovery.overrule(said, ACT, "told")


async def note_expired(side: Side, consumer: str, first: int, end: int) -> Any:
    lost = [Expired(consumer, "t", 0, first, end), Expired(consumer, "t", 1, first, end)]
    return sorted(map(str, map(side.plain, await side.store.recovery.note_expired(lost))))


async def acknowledge(side: Side, consumer: str) -> Any:
    return await side.store.recovery.acknowledge_expired(consumer, ACT)


async def annotate(side: Side, failure: int, note: str) -> Any:
    await side.store.recovery.annotate(FAILURES[failure].fingerprint, note, ACT)


async def set_fault(side: Side, value: str) -> Any:
    return replace(
        await side.faults.add(Fault(event_type="t", field="f", value=value, error=FaultKind.HANG), ACT), faults=()
    )


async def clear_faults(side: Side) -> Any:
    return len((await side.faults.clear(None, ACT)).faults)


async def follow_faults(side: Side, number: int, applied: int) -> Any:
    await side.faults.follow(UUID(int=number), applied)
    return await side.faults.readers(FOREVER_MS)


async def look(side: Side) -> Any:
    """Everything that can be seen."""
    store, recovery = side.store, side.store.recovery
    letters = await recovery.letters(LetterFilter(state=None), 100)
    replays = await recovery.replays(10)
    standing = await store.standing(CONSUMERS, 0)
    return {
        "letters": letters,
        "dead": await recovery.letters(LetterFilter(state=InboxState.DEAD), 100),
        "by key": await recovery.letters(LetterFilter(state=None, key="x", consumer=CONSUMER), 100),
        "found": [(await recovery.letter(each.event_id)) for each in letters],
        "history": [await recovery.history(each.position) for each in letters],
        "of ids": [await recovery.history(event_id(f"{key}/{identity}")) for key in KEYS for identity in IDENTITIES],
        "groups": sorted(map(str, map(side.plain, await recovery.groups(LetterFilter())))),
        "summary": await recovery.summary(),
        "actions": [
            (each.who, each.action, NUMBERED.sub("", each.target), each.reason, each.result)
            for each in await recovery.actions(100)
        ],
        "replays": [(each.state, each.why, each.progress, each.step, each.lag_before) for each in replays],
        "expired": await recovery.expired(),
        "overrules": await recovery.overrules(),
        "faults": len((await side.faults.current()).faults),
        "due": sorted((each.kind, each.consumer, each.place, each.count) for each in standing.due),
        "unending": sorted((each.kind, each.consumer, each.count) for each in standing.unending),
        "published": await store.published(OutboxFilter()),
        "unsent": (await store.backlog()).unsent,
    }


STEPS: Mapping[str, Callable[..., Awaitable[Any]]] = {
    each.__name__: each
    for each in (
        batch, waiting, due, claim_intents, relay, republish, begin_replay, claim_replay, of_replay, overrule,
        note_expired, acknowledge, annotate, set_fault, clear_faults, follow_faults, look,
    )
}  # fmt: skip


# --- what is done


def history(seed: int, length: int = 25) -> list[Step]:
    """A random history, as good as any other of its seed."""
    rng = Random(seed)
    return [_step(rng) for _ in range(length)]


def _step(rng: Random) -> Step:
    pick = rng.choice
    name = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    consumer, key = pick((CONSUMER, CONSUMER, "other")), pick(KEYS)
    made: Mapping[str, Callable[[], Step]] = {
        "batch": lambda: (
            consumer,
            rng.random() < 0.9,
            tuple(_part(rng) for _ in range(pick((1, 1, 2, 3)))),
            pick(("committed", "committed", "committed", "rolled back", "abandoned")),
            rng.random() < 0.5,
        ),
        "waiting": lambda: (consumer, pick((1, 2, 10))),
        "due": lambda: (consumer, pick(((), ("Sent.v1",)))),
        "claim_intents": lambda: (pick((0, FOREVER_MS)),),
        "relay": lambda: (pick((0, 1, 2)),),
        "republish": lambda: (pick((None, key)),),
        "begin_replay": lambda: (tuple((consumer, each, pick((0, 1))) for each in KEYS[: pick((1, 2))]),),
        "claim_replay": lambda: (pick((0, FOREVER_MS)),),
        "of_replay": lambda: (
            pick((0, 0, 1)),
            pick(("send", "send", "pause", "resume", *ReplayState)),
            pick((1, 10)),
        ),
        "overrule": lambda: (consumer, pick(("a.v1", "b.v1")), pick(tuple(Verdict)).value),
        "note_expired": lambda: (consumer, pick((0, 5)), pick((6, 9))),
        "acknowledge": lambda: (consumer,),
        "annotate": lambda: (pick((0, 1)), pick(("", "seen"))),
        "set_fault": lambda: (pick(("1", "2")),),
        "clear_faults": tuple,
        "follow_faults": lambda: (pick((1, 2)), pick((0, 1))),
        "look": tuple,
    }
    return (name, *made[name]())


def _part(rng: Random) -> Step:
    pick = rng.choice
    key, identity, place = pick(KEYS), pick(IDENTITIES), pick((0, 0, 0, 1, 2))
    hows = ("failed", "failed", "later", "dead", "dead", "handled", "handled", "discarded", "edited")
    return pick(
        (
            ("put_inbox", key, identity, pick((InboxState.DONE, InboxState.DISCARDED))),
            ("put_counter", key, pick((1, 2, 3, -1))),
            ("put_parcel", key, pick(tuple(ParcelState))),
            ("put_move", key, pick((1, 2, 3))),
            ("put_outbox", key, pick((1, 2))),
            ("put_stream", key, pick((0, 1, 2, 3, 4))),
            ("park", key, identity, pick(("held", "failed", "later", "dead"))),
            ("park", key, identity, pick(("held", "failed", "later", "dead"))),
            ("change", key, place, pick(hows), pick((0, 1)), pick((0, 1, 2, 3))),
            ("change", key, place, pick(hows), pick((0, 1)), pick((1, 2, 3))),
            ("change", key, place, pick(hows), pick((0, 1)), pick((1, 2, 3))),
            ("put_intent", key, pick(("opened", "postponed", "closed"))),
            ("put_log", key),
        )
    )


WEIGHTS = {
    "batch": 24, "waiting": 2, "due": 2, "claim_intents": 2, "relay": 3, "republish": 1, "begin_replay": 3,
    "claim_replay": 3, "of_replay": 5, "overrule": 1, "note_expired": 1, "acknowledge": 1, "annotate": 1,
    "set_fault": 1, "clear_faults": 1, "follow_faults": 1, "look": 4,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """The last step of a history is answered otherwise by the two."""

    steps: Sequence[Step]
    memory: Any
    postgres: Any

    def __str__(self) -> str:
        steps = "\n".join(f"  {step}" for step in self.steps)
        return f"after\n{steps}\nmemory says\n  {self.memory}\nPostgreSQL says\n  {self.postgres}"


Pair = Callable[[], Awaitable[tuple[Any, Any]]]


async def difference(steps: Sequence[Step], fresh: Pair) -> Difference | None:
    """The first step that the two sides answer otherwise; `fresh` makes both, empty."""
    memory, postgres = await fresh()
    for n, step in enumerate([*steps, ("look",)], 1):
        one, other = await memory.take(step), await postgres.take(step)
        if one != other:
            return Difference([*steps, ("look",)][:n], *narrowed(one, other))
    return None


def narrowed(one: Any, other: Any) -> tuple[Any, Any]:
    """Of two long answers only what differs."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
        return {name: one.get(name) for name in names}, {name: other.get(name) for name in names}
    return one, other


async def shortened(found: Difference, fresh: Any, look_for: Callable[..., Any] = difference) -> Difference:
    """The same or another difference, by fewer steps: each that is not needed is left out."""
    place = len(found.steps) - 2
    while place >= 0:
        fewer = [*found.steps[:place], *found.steps[place + 1 :]]
        again = await look_for(fewer, fresh)
        if again is not None and len(again.steps) < len(found.steps):
            found, place = again, min(place, len(again.steps) - 1)
        place -= 1
    return found
