"""Watches progress rather than liveness: work that is due and does not move is reported within 10 s, and then helped.

A thread, a task or a socket can look alive and do nothing. So the log and the database are asked for the work that is
due, with a mark that changes whenever some of it is done. Work that waits for a known reason (infrastructure away, an
outage, no room) is reported with that reason, and left alone. For all other work the part is restarted (a consumer
joins its group again, a relay claims its slots again); if that does not help, the process ends, so that its
supervisor starts another.

The same look finds the work that no part of this process knows of: what another process has left, or an operator has
made due. So no part polls the database by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ParamSpec, TypeVar

import msgspec

from orderflow.core.operations.model import Expired
from orderflow.core.operations.port import OperatedStore
from orderflow.core.store import Due, DueReport, StoreUnavailableError, Unending, WorkKind
from orderflow.core.telemetry import (
    AlarmCleared,
    AlarmRaised,
    BegunAnew,
    Hopeless,
    RecordsExpired,
    Signals,
    Stalled,
    StallOver,
)
from orderflow.core.timing import Clock
from orderflow.core.transport import PartitionLag, TopicMissingError, Transport, TransportUnavailableError

LOOK_S = 3.0
LOOK_AGAIN_S = 1.0
STALLED_S = 5.0
"""Work that becomes due and does not move is reported after LOOK_S + STALLED_S + LOOK_AGAIN_S at the latest."""

ANEW_S = 15.0
ANEW_EVERY_S = 30.0
HOPELESS_S = 75.0
LOOK_TIMEOUT_S = 3.0
"""A source that does not answer within this time counts as away, which other parts report."""

LOOK_SHARE = 20
PAUSE_MAX_S = 10.0
"""After a look, LOOK_SHARE times its duration passes before the next, so that looking is never much of the load."""

EXPIRED_EVERY_S = 15.0
AWAY = (StoreUnavailableError, TransportUnavailableError, TopicMissingError, TimeoutError)
T = TypeVar("T")
P = ParamSpec("P")


class DueWork(msgspec.Struct, frozen=True):
    """Work that is due at one place of a component. `mark` changes whenever some of it is done.

    `excuse` is the known reason why it waits, or "". `ours`: this process has to do it.
    """

    component: str
    place: str
    count: int
    mark: Hashable
    excuse: str = ""
    ours: bool = True


@dataclass(frozen=True, slots=True)
class Stall:
    """Work of a component that does not move: where, how much, for how long (s), and the known reason or "".

    `helpless_s` is how long work of this process has not moved without any excuse.
    """

    component: str
    places: tuple[str, ...]
    count: int
    for_s: float
    helpless_s: float
    excuse: str


@dataclass(slots=True)
class _Seen:
    mark: Hashable
    since: float
    helpless_since: float


class StallDetector:
    """Compares looks, without I/O. Work that is missing in a look is forgotten."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], _Seen] = {}

    def look(self, now: float, works: Sequence[DueWork]) -> Sequence[Stall]:
        """The work that does not move, as one stall per component."""
        seen = {(work.component, work.place): self._see(now, work) for work in works}
        self._seen = seen
        still: dict[str, list[tuple[DueWork, _Seen]]] = {}
        for work in works:
            known = seen[work.component, work.place]
            if now - known.since >= STALLED_S:
                still.setdefault(work.component, []).append((work, known))
        return [_stall(now, component, found) for component, found in still.items()]

    def unmoved(self, now: float) -> bool:
        """Whether anything that is due has not moved since an earlier look."""
        return any(known.since < now for known in self._seen.values())

    def _see(self, now: float, work: DueWork) -> _Seen:
        known = self._seen.get((work.component, work.place))
        if known is None or known.mark != work.mark:
            return _Seen(work.mark, now, now)
        if work.excuse or not work.ours:
            known.helpless_since = now
        return known


def _stall(now: float, component: str, found: Sequence[tuple[DueWork, _Seen]]) -> Stall:
    return Stall(
        component,
        tuple(work.place for work, _ in found),
        sum(work.count for work, _ in found),
        now - min(known.since for _, known in found),
        now - min(known.helpless_since for _, known in found),
        next((work.excuse for work, _ in found if work.excuse), "") if all(work.excuse for work, _ in found) else "",
    )


class Help(StrEnum):
    """What is done about a part that does not move without an excuse."""

    NONE = "none"
    ANEW = "anew"
    END = "end"


class Helper:
    """Decides which help is due. A process ends only for a part that has worked before in its life: a part that never
    has would stall in the next process too.
    """

    def __init__(self) -> None:
        self._anew_at: dict[str, float] = {}

    def due(self, now: float, stall: Stall, *, worked: bool) -> Help:
        """The help to give now; call it at each look."""
        if stall.helpless_s >= HOPELESS_S and worked:
            return Help.END
        last = self._anew_at.get(stall.component, float("-inf"))
        if stall.helpless_s >= ANEW_S and now >= last + ANEW_EVERY_S:
            self._anew_at[stall.component] = now
            return Help.ANEW
        return Help.NONE


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the engine, as the watch sees it. `excuse` returns why the work of a place waits, or "".

    `ours` returns whether this process should do the work of a place. `batch_commits` grows while a long batch makes
    progress. `worked` returns whether the part has done any work in the life of this process. `wake` is called when a
    look has found work of ours that is due, or when the part `wants_looks`.
    """

    component: str
    worked: Callable[[], bool]
    excuse: Callable[[str], str]
    ours: Callable[[str], bool] = lambda _: True
    batch_commits: Callable[[], int] = lambda: 0
    wake: Callable[[], None] = lambda: None
    wants_looks: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All that is watched. `consumers`: by name, with the topics that each reads. `unmarked`: outbox rows that are
    sent and not marked so yet; `held`: those of them that cannot be. `replays` is called when one is to go on.
    """

    consumers: Mapping[str, tuple[Part, Sequence[str]]]
    relay: Part
    unmarked: Callable[[], Collection[int]] = tuple
    held: Callable[[], Collection[int]] = tuple
    retriers: Mapping[str, Part]
    intents: Part | None = None
    replays: Callable[[], None] = lambda: None


@dataclass(slots=True)
class _Told:
    """What is told at the moment, by component."""

    stalls: Mapping[str, Stall] = field(default_factory=dict)
    unending: Sequence[Unending] = ()
    expired: Sequence[Expired] = ()


class ProgressWatch:
    """Looks every few seconds. `anew` begins a part anew, `end` ends the process; both return at once."""

    def __init__(
        self,
        service: str,
        parts: Parts,
        store: OperatedStore,
        transport: Transport,
        signals: Signals,
        clock: Clock,
        *,
        anew: Callable[[str], None],
        end: Callable[[str], None],
        problems: Callable[[], Mapping[str, str]],
        alarm_age_ms: int,
    ) -> None:
        self._service = service
        self._parts = parts
        self._store = store
        self._transport = transport
        self._signals = signals
        self._clock = clock
        self._anew = anew
        self._end = end
        self._problems = problems
        self._alarm_age_ms = alarm_age_ms
        self._detector = StallDetector()
        self._helper = Helper()
        self._told = _Told()
        self._announced: set[str] = set()
        self._unmarked = 0
        self._unmarked_since = 0.0
        self._troubled_since: dict[str, float] = {}
        self._raised: set[str] = set()
        self._pause_s = LOOK_S
        self._expired_at = float("-inf")
        self._over = False

    @property
    def stalls(self) -> Mapping[str, str]:
        """By component that stands still: why, where that is known, and what of it does."""
        return {
            stall.component: f"{stall.excuse}; {amount(stall)}" if stall.excuse else sentence(stall)
            for stall in self._told.stalls.values()
        }

    @property
    def alarms(self) -> Mapping[str, str]:
        """What does not hinder the service, and does not end without a person."""
        alarms = {f"unending {_what(each)}": _unending_sentence(each) for each in self._told.unending}
        held_s = self._clock.monotonic() - self._unmarked_since
        if self._unmarked and held_s >= STALLED_S:
            alarms["unmarked relay"] = (
                f"{_counted(self._unmarked, 'published event')} cannot be marked as sent, for {held_s:.0f} s: "
                "another database session holds the rows in outbox_pending; end that session"
            )
        for consumer, lost in _by_consumer(self._told.expired).items():
            alarms[f"expired {consumer}"] = _expired_sentence(consumer, lost)
        return alarms

    async def step(self) -> None:
        """Look after a pause, tell, and help."""
        await self._clock.sleep(self._pause_s)
        began = self._clock.monotonic()
        works = await self._look()
        took_s = self._clock.monotonic() - began
        # To wait for a source that does not answer is no load.
        pause_s = min(PAUSE_MAX_S, LOOK_SHARE * took_s) if took_s < LOOK_TIMEOUT_S else 0.0
        now = self._clock.monotonic()
        stalls = {stall.component: stall for stall in self._detector.look(now, works)}
        self._tell_stalls(stalls)
        self._told.stalls = stalls
        self._tell_alarms(now)
        for stall in stalls.values():
            self._help(now, stall)
        self._pause_s = max(pause_s, LOOK_AGAIN_S if self._detector.unmoved(now) else LOOK_S)

    async def before_joining(self, consumer: str, topics: Sequence[str]) -> None:
        """A consumer is about to join its group, and to read on behind whatever it has lost: keep that first.

        Raises StoreUnavailableError, TransportUnavailableError, TopicMissingError.
        """
        await self._note_expired(_lost(consumer, await self._transport.lag(consumer, topics)))

    async def _look(self) -> Sequence[DueWork]:
        """What is due. Of what cannot be seen because its source is away nothing is said: others say that."""
        works: list[DueWork] = []
        self._see_unmarked(len(self._parts.held()))
        consumers, unmarked = list(self._parts.retriers), list(self._parts.unmarked())
        standing = await _unless_away(self._store.standing, consumers, self._alarm_age_ms, unmarked)
        if standing is not None:
            self._told.unending = standing.unending
            works += self._due(standing)
            if standing.replays:
                self._parts.replays()
        for part in self._parts.retriers.values():
            if part.wants_looks():
                part.wake()
        readers = self._parts.consumers
        asked = (_unless_away(self._transport.lag, name, topics) for name, (_, topics) in readers.items())
        for (name, (part, _)), stands in zip(readers.items(), await asyncio.gather(*asked), strict=True):
            if stands is not None:
                works += _behind(part, stands)
                if lost := _lost(name, stands):
                    await _unless_away(self._note_expired, lost)
        if self._clock.monotonic() >= self._expired_at:
            expired = await _unless_away(self._store.recovery.expired)
            if expired is not None:
                self._told.expired = expired
                self._expired_at = self._clock.monotonic() + EXPIRED_EVERY_S
        return works

    def _see_unmarked(self, count: int) -> None:
        if not self._unmarked:
            self._unmarked_since = self._clock.monotonic()
        self._unmarked = count

    def _due(self, standing: DueReport) -> Iterable[DueWork]:
        for due in standing.due:
            part = self._part_of(due)
            if part is not None:
                ours = part.ours(due.place)
                if ours:
                    part.wake()
                yield DueWork(part.component, due.place, due.count, due.oldest, part.excuse(due.place), ours)

    def _part_of(self, due: Due) -> Part | None:
        match due.kind:
            case WorkKind.OUTBOX:
                return self._parts.relay
            case WorkKind.RETRY:
                return self._parts.retriers[due.consumer]
            case WorkKind.INTENT:
                return self._parts.intents

    async def _note_expired(self, lost: Sequence[Expired]) -> None:
        if not lost:
            return
        for each in await self._store.recovery.note_expired(lost):
            self._expired_at = float("-inf")
            self._signals.emit(
                RecordsExpired(
                    self._service, each.consumer, each.topic, each.partition, each.first_lost, each.next_kept
                )
            )

    def _tell_stalls(self, stalls: Mapping[str, Stall]) -> None:
        """Those without an excuse, for which somebody else has spoken when it began; once, until all moves again."""
        for name, stall in stalls.items():
            if not stall.excuse and name not in self._announced:
                self._announced.add(name)
                self._signals.emit(Stalled(self._service, name, stall.places, stall.count, stall.for_s))
        for name in sorted(self._announced - stalls.keys()):
            self._announced.discard(name)
            self._signals.emit(StallOver(self._service, name, self._told.stalls[name].for_s))

    def _tell_alarms(self, now: float) -> None:
        """A trouble that goes on for too long is an alarm once more, and so is a retry without end."""
        troubles = {**self._problems(), **self.stalls}
        self._troubled_since = {name: self._troubled_since.get(name, now) for name in troubles}
        old = {name: why for name, why in troubles.items() if self._age_ms(name, now) >= self._alarm_age_ms}
        old |= self.alarms
        for name in sorted(old.keys() - self._raised):
            self._signals.emit(AlarmRaised(self._service, name, old[name]))
        for name in sorted(self._raised - old.keys()):
            self._signals.emit(AlarmCleared(self._service, name))
        self._raised = set(old)

    def _age_ms(self, name: str, now: float) -> float:
        return (now - self._troubled_since[name]) * 1000

    def _help(self, now: float, stall: Stall) -> None:
        if self._over:
            return
        help_due = self._helper.due(now, stall, worked=self._worked(stall.component))
        if help_due is Help.ANEW:
            self._signals.emit(BegunAnew(self._service, stall.component, stall.for_s))
            self._anew(stall.component)
        elif help_due is Help.END:
            self._over = True
            why = f"{stall.component}: {sentence(stall)}, although it was restarted"
            self._signals.emit(Hopeless(self._service, stall.component, why))
            self._end(why)

    def _worked(self, component: str) -> bool:
        parts = [part for part, _ in self._parts.consumers.values()]
        parts += [self._parts.relay, *self._parts.retriers.values()]
        parts += [self._parts.intents] if self._parts.intents else []
        return any(part.worked() for part in parts if part.component == component)


def _lost(consumer: str, stands: Sequence[PartitionLag]) -> Sequence[Expired]:
    """What retention has dropped before the group had read it."""
    return [
        Expired(consumer, each.topic, each.partition, each.committed, each.first)
        for each in stands
        if each.committed is not None and each.expired
    ]


def _behind(part: Part, stands: Sequence[PartitionLag]) -> Iterable[DueWork]:
    commits = part.batch_commits()
    for each in stands:
        if each.lag:
            place = f"{each.topic}/{each.partition}"
            mark = (each.position, commits)
            yield DueWork(part.component, place, each.lag, mark, part.excuse(place), part.ours(place))


async def _unless_away(ask: Callable[P, Awaitable[T]], *arguments: P.args, **named: P.kwargs) -> T | None:
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            return await ask(*arguments, **named)
    except AWAY:
        return None


_WAITS = {
    "consumer": ("record waits", "records wait", "handled"),
    "relay": ("event waits to be published", "events wait to be published", "published"),
    "retry": ("parked event is due for retry", "parked events are due for retry", "retried"),
    "intents": ("question to the outside world is due", "questions to the outside world are due", "asked"),
}
PLACES_SHOWN = 6


def sentence(stall: Stall) -> str:
    """What does not move for no known reason, in words."""
    return f"stalled: {amount(stall)}"


def amount(stall: Stall) -> str:
    """How much of what does not move, where, and for how long, in words."""
    one, many, done = _WAITS[stall.component.partition(" ")[0]]
    places = ", ".join(stall.places[:PLACES_SHOWN])
    more = f" and {len(stall.places) - PLACES_SHOWN} more" if len(stall.places) > PLACES_SHOWN else ""
    where = f"slot {places}{more}" if stall.component == "relay" else f"{places}{more}"
    what = f"{stall.count} {one if stall.count == 1 else many} ({where})"
    return f"{what}, and none has been {done} for {stall.for_s:.0f} s"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _what(each: Unending) -> str:
    return f"retries {each.consumer}" if each.kind is WorkKind.RETRY else "intents"


def _unending_sentence(each: Unending) -> str:
    minutes = each.age_ms / 60_000
    if each.kind is WorkKind.RETRY:
        return (
            f"{_counted(each.count, 'parked event')} retried again and again, the oldest (key {each.key!r}) for "
            f"{minutes:.0f} min; see them with: orderflow lag"
        )
    return (
        f"{_counted(each.count, 'question')} to the outside world without a final answer, the oldest ({each.key!r}) "
        f"for {minutes:.0f} min; find out the answer some other way, and settle it by hand"
    )


def _by_consumer(expired: Sequence[Expired]) -> Mapping[str, Sequence[Expired]]:
    found: dict[str, list[Expired]] = {}
    for each in expired:
        found.setdefault(each.consumer, []).append(each)
    return found


def _expired_sentence(consumer: str, lost: Sequence[Expired]) -> str:
    shown = ", ".join(f"{e.topic}/{e.partition} {e.first_lost} to {e.next_kept - 1}" for e in lost[:PLACES_SHOWN])
    more = f" and {len(lost) - PLACES_SHOWN} more" if len(lost) > PLACES_SHOWN else ""
    topics = " ".join(f"--topic {topic}" for topic in dict.fromkeys(each.topic for each in lost))
    count = _counted(sum(each.count for each in lost), "record")
    return (
        f"{count} expired before {consumer} read them ({shown}{more}); "
        f"recover what the outbox still has with: orderflow outbox republish {topics}; then: "
        f'orderflow expired acknowledge {consumer} --reason "..."'
    )
