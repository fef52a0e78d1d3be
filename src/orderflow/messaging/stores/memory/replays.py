"""Replays over a shared memory database."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from orderflow.messaging.inbox import InboxState
from orderflow.messaging.recovery.port import Act, Moment, Replay, ReplayPlan, ReplayProgress, ReplayState
from orderflow.messaging.stores.memory.database import MemoryDatabase
from orderflow.messaging.stores.memory.state import (
    Course,
    DueTimes,
    Journal,
    KeptReplay,
    Replayed,
    Waiting,
    at,
    remember,
)
from orderflow.messaging.stores.memory.transaction import queue_of

OUTCOMES = {InboxState.DONE: Course.SUCCEEDED, InboxState.DISCARDED: Course.DISCARDED}


class MemoryReplays:
    """What `messaging.recovery.port.RecoveryStore` says of replays, each call in one go. `process` claims them."""

    def __init__(self, database: MemoryDatabase, process: object) -> None:
        self._database = database
        self._process = process

    def begin(self, events: Sequence[int], plan: ReplayPlan, act: Act, lag_before: int) -> Replay:
        state = self._database.state
        dead = [waiting for position in sorted(set(events)) if (waiting := self._dead(position)) is not None]
        kept = KeptReplay(
            number=len(state.replays) + 1,
            plan=plan,
            act=Act(who=act.who, reason=act.reason),
            created_at=self._database.clock.wall_ms(),
            lag_before=lag_before,
            events={waiting.event.position: Replayed(_name(waiting)) for waiting in dead},
        )
        state.replays[kept.number] = kept
        return self._view(kept)

    def latest(self, limit: int) -> Sequence[Replay]:
        kept = sorted(self._database.state.replays.values(), key=lambda each: -each.number)
        return [self._view(each) for each in kept[:limit]]

    def get(self, number: int) -> Replay | None:
        kept = self._database.state.replays.get(number)
        return self._view(kept) if kept else None

    def claim(self, lease_ms: int) -> Replay | None:
        due = DueTimes(self._database.clock.wall_ms(), lease_ms)
        free = [each for each in self._database.state.replays.values() if each.is_free_for(self._process, due)]
        if not free:
            return None
        kept = min(free, key=lambda each: (each.claimed_by is not self._process, each.number))
        kept.claimed_by, kept.claimed_until = self._process, due.now + lease_ms
        return self._view(kept)

    def send(self, number: int, limit: int) -> Sequence[tuple[str, str]]:
        kept = self._mine(number)
        if kept is None:
            return []
        sent: dict[tuple[str, str], None] = {}
        left = limit
        for position, replayed in kept.events.items():
            if replayed.course is not Course.WAITING:
                continue
            waiting = self._dead(position)
            if waiting is None:
                replayed.course = Course.GONE
            elif left:
                left -= 1
                self._send(waiting, kept.act.who)
                replayed.name, replayed.course = _name(waiting), Course.UNDER_WAY
                sent[waiting.consumer, waiting.event.key] = None
            else:
                break
        return list(sent)

    def finish_step(self, number: int, step: int, state: ReplayState, why: str) -> bool:
        kept = self._mine(number)
        if kept is None:
            return False
        kept.step, kept.state, kept.why = step, state, why
        if state is not ReplayState.RUNNING:
            kept.claimed_by = None
        return True

    def pause(self, number: int, why: str) -> bool:
        kept = self._database.state.replays.get(number)
        if kept is None or kept.state is not ReplayState.RUNNING:
            return False
        kept.state, kept.why, kept.claimed_by = ReplayState.PAUSED, why, None
        return True

    def resume(self, number: int) -> bool:
        kept = self._database.state.replays.get(number)
        if kept is None or kept.state not in (ReplayState.PAUSED, ReplayState.STOPPED):
            return False
        kept.state, kept.why = ReplayState.RUNNING, ""
        return True

    def _send(self, waiting: Waiting, who: str) -> None:
        """Due at once. Another replay that has sent it before has seen it fail."""
        state, now = self._database.state, self._database.clock.wall_ms()
        position = waiting.event.position
        for other in state.replays.values():
            self._settle(other, position)
        event = replace(waiting.event, state=InboxState.PARKED, replays=waiting.event.replays + 1)
        state.parked[position] = dataclasses.replace(waiting, event=event, next_attempt_at=now)
        remember(state, Journal(), event, Moment.REPLAYED, now, who=who)

    def _mine(self, number: int) -> KeptReplay | None:
        """A replay that this process has claimed; only a running one is."""
        kept = self._database.state.replays.get(number)
        return kept if kept is not None and kept.claimed_by is self._process else None

    def _dead(self, position: int) -> Waiting | None:
        waiting = self._database.state.parked.get(position)
        return waiting if waiting is not None and waiting.event.state is InboxState.DEAD else None

    def _settle(self, kept: KeptReplay, position: int) -> None:
        """Write an outcome down once it is known."""
        replayed = kept.events.get(position)
        if replayed is None or replayed.course is not Course.UNDER_WAY:
            return
        if self._dead(position) is not None:
            replayed.course = Course.FAILED_AGAIN
        elif position not in self._database.state.parked and not self._follows(replayed.name):
            entry = self._database.state.inbox.get(replayed.name)
            replayed.course = OUTCOMES.get(entry.state, Course.UNDER_WAY) if entry else Course.UNDER_WAY

    def _follows(self, name: tuple[str, str, str]) -> bool:
        """What was held behind an event has come to the head of its key and was not tried yet."""
        key, consumer, _ = name
        queue = queue_of(self._database.state, consumer, key)
        return bool(queue) and queue[0].event.state is InboxState.PARKED and not queue[0].event.attempts

    def _view(self, kept: KeptReplay) -> Replay:
        for position in kept.events:
            self._settle(kept, position)
        courses = Counter(replayed.course for replayed in kept.events.values())
        return Replay(
            number=kept.number,
            plan=kept.plan,
            act=kept.act,
            state=kept.state,
            why=kept.why,
            created_at=at(kept.created_at),
            progress=ReplayProgress(**{course.value: courses[course] for course in Course}),
            lag_before=kept.lag_before,
            step=kept.step,
        )


def _name(waiting: Waiting) -> tuple[str, str, str]:
    return waiting.event.key, waiting.consumer, waiting.event.identity
