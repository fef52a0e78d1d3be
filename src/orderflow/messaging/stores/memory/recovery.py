"""The recovery port over a shared memory database."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from msgspec.structs import replace

from orderflow.messaging.inbox import InboxState
from orderflow.messaging.recovery.port import (
    LETTERS_BYTES_MAX,
    OVERRULE_HOLDS_MS,
    Act,
    Expired,
    HistoryEntry,
    Letter,
    LetterFilter,
    LetterGroup,
    LogEntry,
    OperatorAction,
    Overrule,
    ParkedSummary,
    Replay,
    ReplayPlan,
    ReplayState,
    bytes_of,
)
from orderflow.messaging.stores.memory import letters
from orderflow.messaging.stores.memory.database import MemoryDatabase
from orderflow.messaging.stores.memory.replays import MemoryReplays
from orderflow.messaging.stores.memory.state import Journal, State, Waiting, at, note_action


class MemoryRecovery:
    """See `messaging.recovery.port.RecoveryStore`. `process` is who claims replays."""

    def __init__(self, database: MemoryDatabase, step: Callable[[str], Awaitable[None]], process: object) -> None:
        self._database = database
        self._step = step
        self._replays = MemoryReplays(database, process)

    @property
    def _state(self) -> State:
        return self._database.state

    async def letters(self, wanted: LetterFilter, limit: int, after: int = 0) -> Sequence[Letter]:
        await self._step("read")
        found = [waiting for waiting in self._meant(wanted) if waiting.event.position > after]
        page: list[Letter] = []
        room = LETTERS_BYTES_MAX
        for waiting in found[:limit]:
            if room <= 0:
                break
            page.append(letters.view(self._state, waiting))
            room -= bytes_of(page[-1])
        return page

    async def letter(self, event: UUID | int) -> Letter | None:
        await self._step("read")
        for waiting in letters.by_position(self._state):
            if letters.is_named(self._state, waiting, event):
                return letters.view(self._state, waiting)
        return None

    async def events_ending(self, digits: str, limit: int) -> Sequence[UUID]:
        await self._step("read")
        state = self._state
        waiting = {each.event.event_id for each in state.parked.values()}
        known = waiting | {each.event_id for each in state.originals.values()}
        known |= {each.event_id for each in state.history.values()}
        return sorted(each for each in known if each.hex.endswith(digits))[:limit]

    async def sequence(self, consumer: str, key: str, limit: int) -> Sequence[Letter]:
        await self._step("read")
        queue = [w for w in letters.by_position(self._state) if (w.consumer, w.event.key) == (consumer, key)]
        return [letters.view(self._state, waiting) for waiting in queue[:limit]]

    async def history(self, event: UUID | int) -> Sequence[HistoryEntry]:
        await self._step("read")
        happened = self._state.history.values()
        position = min((each.position for each in happened if event in (each.position, each.event_id)), default=0)
        return [each.entry for each in happened if each.position == position]

    async def groups(self, wanted: LetterFilter) -> Sequence[LetterGroup]:
        await self._step("read")
        dead: dict[str, list[Waiting]] = {}
        for waiting in self._meant(replace(wanted, state=InboxState.DEAD)):
            assert waiting.event.failure is not None
            dead.setdefault(waiting.event.failure.fingerprint, []).append(waiting)
        groups = [letters.group(alike, self._state.notes.get(name, "")) for name, alike in dead.items()]
        return sorted(groups, key=lambda each: (-each.count, -each.last_seen.timestamp(), each.fingerprint))

    async def annotate(self, fingerprint: str, note: str, act: Act) -> None:
        await self._step("read")
        if note:
            self._state.notes[fingerprint] = note
        else:
            self._state.notes.pop(fingerprint, None)
        self._log(act, "note", fingerprint, note or "the note was taken away")

    async def summary(self) -> Sequence[ParkedSummary]:
        await self._step("read")
        by_consumer: dict[str, list[Waiting]] = {}
        for waiting in self._state.parked.values():
            by_consumer.setdefault(waiting.consumer, []).append(waiting)
        return [letters.summary(consumer, waiting) for consumer, waiting in sorted(by_consumer.items())]

    async def log(self, act: Act, action: str, target: str, result: str) -> None:
        await self._step("read")
        self._log(act, action, target, result)

    async def actions(self, limit: int, before: int | None = None) -> Sequence[OperatorAction]:
        await self._step("read")
        actions = self._state.actions.values()
        earlier = [action for action in actions if before is None or action.number < before]
        return earlier[::-1][:limit]

    async def note_expired(self, lost: Sequence[Expired]) -> Sequence[Expired]:
        await self._step("read")
        return self._note_expired(lost)

    async def expired(self) -> Sequence[Expired]:
        await self._step("read")
        state = self._state
        return [each for name, each in sorted(state.expired.items()) if name not in state.acknowledged]

    async def acknowledge_expired(self, consumer: str, act: Act) -> int:
        await self._step("read")
        known = [each for each in self._state.expired.items() if each[0] not in self._state.acknowledged]
        mine = {name: each.count for name, each in known if each.consumer == consumer}
        self._state.acknowledged |= mine.keys()
        if mine:
            self._log(act, "acknowledge", f"expired records of {consumer}", f"{sum(mine.values())} records lost")
        return sum(mine.values())

    async def begin_replay(self, events: Sequence[int], plan: ReplayPlan, act: Act, lag_before: int) -> Replay:
        await self._step("read")
        return self._replays.begin(events, plan, act, lag_before)

    async def replay(self, number: int) -> Replay | None:
        await self._step("read")
        return self._replays.get(number)

    async def replays(self, limit: int) -> Sequence[Replay]:
        await self._step("read")
        return self._replays.latest(limit)

    async def claim_replay(self, lease_ms: int) -> Replay | None:
        await self._step("read")
        return self._replays.claim(lease_ms)

    async def send(self, replay: int, limit: int) -> Sequence[tuple[str, str]]:
        await self._step("read")
        return self._replays.send(replay, limit)

    async def finish_step(self, replay: int, step: int, state: ReplayState, why: str = "") -> bool:
        await self._step("read")
        return self._replays.finish_step(replay, step, state, why)

    async def pause_replay(self, replay: int, why: str = "") -> bool:
        await self._step("read")
        return self._replays.pause(replay, why)

    async def resume_replay(self, replay: int) -> bool:
        await self._step("read")
        return self._replays.resume(replay)

    async def overrule(self, overrule: Overrule, act: Act, result: str) -> Overrule:
        await self._step("read")
        made = replace(overrule, who=act.who, reason=act.reason, made_at=at(self._database.clock.wall_ms()))
        self._state.overrules[overrule.consumer, overrule.event_type] = made
        self._log(act, "overrule", f"{overrule.consumer} {overrule.event_type}", result)
        return made

    async def overrules(self) -> Sequence[Overrule]:
        await self._step("read")
        since = at(self._database.clock.wall_ms() - OVERRULE_HOLDS_MS)
        said = sorted(self._state.overrules.items())
        return [each for _, each in said if each.made_at is not None and each.made_at > since]

    def _meant(self, wanted: LetterFilter) -> list[Waiting]:
        state, now = self._state, self._database.clock.wall_ms()
        return [waiting for waiting in letters.by_position(state) if letters.is_meant(state, wanted, waiting, now)]

    def _note_expired(self, lost: Sequence[Expired]) -> list[Expired]:
        news: list[Expired] = []
        for each in lost:
            name = (each.consumer, each.topic, each.partition, each.first_lost)
            known = self._state.expired.get(name)
            if known is None or known.next_kept < each.next_kept:
                news.append(dataclasses.replace(each, noticed_at=at(self._database.clock.wall_ms())))
                self._state.expired[name] = news[-1]
                self._state.acknowledged.discard(name)
        return news

    def _log(self, act: Act, action: str, target: str, result: str) -> None:
        entry = LogEntry(act, action, target, result)
        note_action(self._state, Journal(), entry, self._database.clock.wall_ms())
