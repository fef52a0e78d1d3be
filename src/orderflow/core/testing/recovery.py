"""The recovery port over a shared memory database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from msgspec.structs import replace

from orderflow.core.inbox import InboxState, Waits
from orderflow.core.operations.model import (
    OVERRULE_HOLDS_MS,
    PROPOSAL_HOLDS_MS,
    Content,
    DeadLetter,
    DeadLetterGroup,
    Expired,
    HistoryEntry,
    LetterFilter,
    Moment,
    OpenQuestion,
    OperatorAction,
    OutboxCopy,
    Overrule,
    Proposal,
    ProposalState,
    ReceivedEvent,
    Replay,
    ReplayPlan,
    ReplayProgress,
    ReplayState,
    StoredLetter,
    StuckSummary,
    Trail,
    UnsentEvent,
)
from orderflow.core.store import Act, LogEntry
from orderflow.core.testing.state import (
    Course,
    DueTimes,
    Journal,
    KeptEvent,
    KeptReplay,
    MemoryDatabase,
    MemoryTables,
    Replayed,
    at,
    is_open,
    note_action,
    remember,
)
from orderflow.core.testing.transaction import queue_of

OUTCOMES = {InboxState.DONE: Course.SUCCEEDED, InboxState.DISCARDED: Course.DISCARDED}


class MemoryRecovery:
    """See `core.operations.port.RecoveryStore`. `process` is who claims replays."""

    def __init__(self, database: MemoryDatabase, step: Callable[[str], Awaitable[None]], process: object) -> None:
        self._database = database
        self._step = step
        self._process = process

    @property
    def _state(self) -> MemoryTables:
        return self._database.state

    async def letters(self, chosen: LetterFilter, limit: int, after: int = 0) -> Sequence[DeadLetter]:
        await self._step("read")
        found = [waiting for waiting in self._meant(chosen) if waiting.event.position > after]
        return [_letter(self._state, waiting) for waiting in found[:limit]]

    async def letter(self, event: UUID | int) -> StoredLetter | None:
        await self._step("read")
        for waiting in _by_position(self._state):
            if _is_named(self._state, waiting, event):
                return _stored(self._state, waiting)
        return None

    async def events_ending(self, digits: str, limit: int) -> Sequence[UUID]:
        await self._step("read")
        state = self._state
        waiting = {each.event.event_id for each in state.parked.values()}
        known = waiting | {each.event_id for each in state.originals.values()}
        known |= {each.event_id for each in state.history.values()}
        return sorted(each for each in known if each.hex.endswith(digits))[:limit]

    async def history(self, event: UUID | int) -> Sequence[HistoryEntry]:
        await self._step("read")
        happened = self._state.history.values()
        position = min((each.position for each in happened if event in (each.position, each.event_id)), default=0)
        return [each.entry for each in happened if each.position == position]

    async def trail(self, key: str) -> Trail:
        await self._step("read")
        state = self._state
        asked = [each for each in state.intents.values() if each.intent.key == key]
        unsent = [state.outbox[row] for row in sorted(state.pending)]
        return Trail(
            received=[
                ReceivedEvent(
                    consumer=consumer,
                    identity=entry.identity,
                    event_id=entry.event_id,
                    state=entry.state.word,
                )
                for (of, consumer, _), entry in state.inbox.items()
                if of == key
            ],
            unsent=[
                UnsentEvent(topic=row.topic, event_id=row.event_id, since=at(row.created_at))
                for row in unsent
                if row.key == key.encode()
            ],
            asked=[
                OpenQuestion(
                    key=each.intent.intent.key,
                    kind=each.intent.intent.kind,
                    attempts=each.intent.attempts,
                    since=at(each.created_at),
                    due_at=at(each.due_at),
                )
                for each in asked
            ],
        )

    async def outbox_of(self, key: str) -> Sequence[OutboxCopy]:
        await self._step("read")
        return [
            OutboxCopy(topic=row.topic, event_id=row.event_id, at=at(row.created_at), value=Content.of(row.value))
            for _, row in sorted(self._state.outbox.items())
            if row.key == key.encode()
        ]

    async def groups(self, chosen: LetterFilter) -> Sequence[DeadLetterGroup]:
        await self._step("read")
        dead: dict[str, list[KeptEvent]] = {}
        for waiting in self._meant(replace(chosen, state=InboxState.DEAD)):
            assert waiting.event.failure is not None
            dead.setdefault(waiting.event.failure.fingerprint, []).append(waiting)
        groups = [_group(alike, self._state.notes.get(name, "")) for name, alike in dead.items()]
        return sorted(groups, key=lambda each: (-each.count, -each.last_seen.timestamp(), each.fingerprint))

    async def annotate(self, fingerprint: str, note: str, act: Act) -> None:
        await self._step("read")
        if note:
            self._state.notes[fingerprint] = note
        else:
            self._state.notes.pop(fingerprint, None)
        self._log(act, "note", fingerprint, note or "the note was taken away")

    async def summary(self) -> Sequence[StuckSummary]:
        await self._step("read")
        by_consumer: dict[str, list[KeptEvent]] = {}
        for waiting in self._state.parked.values():
            by_consumer.setdefault(waiting.consumer, []).append(waiting)
        return [_summary(consumer, waiting) for consumer, waiting in sorted(by_consumer.items())]

    async def log(self, entry: LogEntry) -> None:
        await self._step("read")
        self._log(entry.act, entry.action, entry.target, entry.result)

    async def propose(self, proposal: Proposal, digest: str, act: Act) -> Proposal:
        await self._step("read")
        now, proposals = self._database.clock.wall_ms(), self._state.proposals
        for known, other in proposals.values():
            if known == digest and is_open(other, now):
                return other
        until = at(now + PROPOSAL_HOLDS_MS)
        made = replace(proposal, who=act.caller.name, reason=act.reason, made_at=at(now), until=until)
        proposals[made.id] = (digest, made)
        self._log(act, "propose", f"proposal {made.id}", made.operation)
        return made

    async def proposal(self, number: UUID) -> Proposal | None:
        await self._step("read")
        return self._state.proposals.get(number, ("", None))[1]

    async def proposals(self, limit: int, *, only_open: bool) -> Sequence[Proposal]:
        await self._step("read")
        now = self._database.clock.wall_ms()
        known = [each for _, (_, each) in sorted(self._state.proposals.items(), reverse=True)]
        told = [
            replace(each, state=ProposalState.EXPIRED)
            if each.state is ProposalState.OPEN and not is_open(each, now)
            else each
            for each in known
        ]
        return [each for each in told if not only_open or each.state is ProposalState.OPEN][:limit]

    async def withdraw(self, number: UUID, act: Act) -> bool:
        await self._step("read")
        digest, proposal = self._state.proposals.get(number, ("", None))
        if proposal is None or not is_open(proposal, self._database.clock.wall_ms()):
            return False
        withdrawn = replace(proposal, state=ProposalState.WITHDRAWN, decided_by=act.caller.name)
        self._state.proposals[number] = (digest, withdrawn)
        self._log(act, "withdraw", f"proposal {number}", proposal.operation)
        return True

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

    async def begin_replay(
        self, events: Sequence[int], plan: ReplayPlan, act: Act, lag_before: int, meant: str
    ) -> Replay:
        await self._step("read")
        state = self._state
        dead = [waiting for position in sorted(set(events)) if (waiting := self._dead(position)) is not None]
        kept = KeptReplay(
            number=len(state.replays) + 1,
            plan=plan,
            act=Act(caller=act.caller, reason=act.reason, operator=act.operator),
            created_at=self._database.clock.wall_ms(),
            lag_before=lag_before,
            events={waiting.event.position: Replayed(_name(waiting)) for waiting in dead},
        )
        state.replays[kept.number] = kept
        self._log(act, "replay", f"replay {kept.number}", f"{len(dead)} to replay: {meant}.")
        return self._view(kept)

    async def replays(self, limit: int) -> Sequence[Replay]:
        await self._step("read")
        kept = sorted(self._state.replays.values(), key=lambda each: -each.number)
        return [self._view(each) for each in kept[:limit]]

    async def replay(self, number: int) -> Replay | None:
        await self._step("read")
        kept = self._state.replays.get(number)
        return self._view(kept) if kept else None

    async def claim_replay(self, lease_ms: int) -> Replay | None:
        await self._step("read")
        due = DueTimes(self._database.clock.wall_ms(), lease_ms)
        free = [each for each in self._database.state.replays.values() if each.is_free_for(self._process, due)]
        if not free:
            return None
        kept = min(free, key=lambda each: (each.claimed_by is not self._process, each.number))
        kept.claimed_by, kept.claimed_until = self._process, due.now + lease_ms
        return self._view(kept)

    async def send(self, replay: int, limit: int) -> Sequence[tuple[str, str]]:
        await self._step("read")
        kept = self._mine(replay)
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

    async def finish_step(self, replay: int, step: int, state: ReplayState, why: str = "", result: str = "") -> bool:
        await self._step("read")
        kept = self._mine(replay)
        if kept is None:
            return False
        kept.step, kept.state, kept.why = step, state, why
        if state is not ReplayState.RUNNING:
            kept.claimed_by = None
            self._log(kept.act, f"replay {state}", f"replay {replay}", result)
        return True

    async def pause_replay(self, replay: int, act: Act, why: str = "") -> bool:
        await self._step("read")
        kept = self._state.replays.get(replay)
        if kept is None or kept.state is not ReplayState.RUNNING:
            return False
        kept.state, kept.why, kept.claimed_by = ReplayState.PAUSED, why, None
        self._log(act, "pause", f"replay {replay}", "Paused.")
        return True

    async def resume_replay(self, replay: int, act: Act) -> bool:
        await self._step("read")
        kept = self._state.replays.get(replay)
        if kept is None or kept.state not in (ReplayState.PAUSED, ReplayState.STOPPED):
            return False
        kept.state, kept.why = ReplayState.RUNNING, ""
        self._log(act, "resume", f"replay {replay}", "Resumed.")
        return True

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

    def _meant(self, chosen: LetterFilter) -> list[KeptEvent]:
        state, now = self._state, self._database.clock.wall_ms()
        return [waiting for waiting in _by_position(state) if _is_meant(state, chosen, waiting, now)]

    def _note_expired(self, lost: Sequence[Expired]) -> list[Expired]:
        news: list[Expired] = []
        for each in lost:
            name = (each.consumer, each.topic, each.partition, each.first_lost)
            known = self._state.expired.get(name)
            if known is None or known.next_kept < each.next_kept:
                news.append(replace(each, noticed_at=at(self._database.clock.wall_ms())))
                self._state.expired[name] = news[-1]
                self._state.acknowledged.discard(name)
        return news

    def _log(self, act: Act, action: str, target: str, result: str) -> None:
        entry = LogEntry(act, action, target, result)
        note_action(self._state, Journal(), entry, self._database.clock.wall_ms())

    def _send(self, waiting: KeptEvent, who: str) -> None:
        """Due at once. Another replay that has sent it before has seen it fail."""
        state, now = self._state, self._database.clock.wall_ms()
        position = waiting.event.position
        for other in state.replays.values():
            self._note_outcome(other, position)
        event = replace(waiting.event, state=InboxState.PARKED, replays=waiting.event.replays + 1)
        state.parked[position] = replace(waiting, event=event, next_attempt_at=now)
        remember(state, Journal(), event, Moment.REPLAYED, now, who=who)

    def _mine(self, number: int) -> KeptReplay | None:
        """A replay that this process has claimed; only a running one is."""
        kept = self._state.replays.get(number)
        return kept if kept is not None and kept.claimed_by is self._process else None

    def _dead(self, position: int) -> KeptEvent | None:
        waiting = self._state.parked.get(position)
        return waiting if waiting is not None and waiting.event.state is InboxState.DEAD else None

    def _note_outcome(self, kept: KeptReplay, position: int) -> None:
        """Write an outcome down once it is known."""
        replayed = kept.events.get(position)
        if replayed is None or replayed.course is not Course.UNDER_WAY:
            return
        if self._dead(position) is not None:
            replayed.course = Course.FAILED_AGAIN
        elif position not in self._state.parked and not self._follows(replayed.name):
            entry = self._state.inbox.get(replayed.name)
            replayed.course = OUTCOMES.get(entry.state, Course.UNDER_WAY) if entry else Course.UNDER_WAY

    def _follows(self, name: tuple[str, str, str]) -> bool:
        """What was held behind an event has come to the head of its key and was not tried yet."""
        key, consumer, _ = name
        queue = queue_of(self._state, consumer, key)
        return bool(queue) and queue[0].event.state is InboxState.PARKED and not queue[0].event.attempts

    def _view(self, kept: KeptReplay) -> Replay:
        for position in kept.events:
            self._note_outcome(kept, position)
        courses = Counter(replayed.course for replayed in kept.events.values())
        return Replay(
            number=kept.number,
            plan=kept.plan,
            who=kept.act.who,
            reason=kept.act.reason,
            state=kept.state,
            why=kept.why,
            created_at=at(kept.created_at),
            progress=ReplayProgress(**{course.value: courses[course] for course in Course}),
            lag_before=kept.lag_before,
            step=kept.step,
        )


def _name(waiting: KeptEvent) -> tuple[str, str, str]:
    return waiting.event.key, waiting.consumer, waiting.event.identity


def _by_position(state: MemoryTables) -> list[KeptEvent]:
    return sorted(state.parked.values(), key=lambda waiting: waiting.event.position)


def _is_meant(state: MemoryTables, chosen: LetterFilter, waiting: KeptEvent, now_ms: int) -> bool:
    event = waiting.event
    pairs = (
        (chosen.state, event.state),
        (chosen.consumer, waiting.consumer),
        (chosen.topic, event.record.topic),
        (chosen.event_type, event.event_type),
        (chosen.fingerprint, event.failure.fingerprint if event.failure else None),
        (chosen.key, event.key),
    )
    if any(asked is not None and asked != found for asked, found in pairs):
        return False
    if chosen.older_than_ms is not None and waiting.parked_at > now_ms - chosen.older_than_ms:
        return False
    return chosen.events is None or any(_is_named(state, waiting, event) for event in chosen.events)


def _is_named(state: MemoryTables, waiting: KeptEvent, event: UUID | int) -> bool:
    """By its position, its event id, or the one that it had before it was edited."""
    original = state.originals.get(waiting.event.position, waiting.event)
    return event in (waiting.event.position, waiting.event.event_id, original.event_id)


def _letter(state: MemoryTables, waiting: KeptEvent) -> DeadLetter:
    event = waiting.event
    later = (w for w in state.parked.values() if (w.consumer, w.event.key) == (waiting.consumer, event.key))
    return DeadLetter.of(
        event,
        consumer=waiting.consumer,
        behind=sum(w.event.position > event.position for w in later),
        edited=event.position in state.originals,
        parked_at=at(waiting.parked_at),
        first_failed_at=at(event.first_failed_at) if event.first_failed_at is not None else None,
        last_failed_at=at(waiting.last_failed_at) if waiting.last_failed_at is not None else None,
        next_attempt_at=at(waiting.next_attempt_at),
    )


def _stored(state: MemoryTables, waiting: KeptEvent) -> StoredLetter:
    original = state.originals.get(waiting.event.position)
    return StoredLetter(
        letter=_letter(state, waiting),
        event=waiting.event,
        original=original.record if original else None,
        original_id=original.event_id if original else None,
    )


def _group(dead: Sequence[KeptEvent], note: str) -> DeadLetterGroup:
    """Dead events of one fingerprint."""
    last = max(dead, key=lambda each: (each.last_failed_at or 0, each.event.position))
    failure = last.event.failure
    assert failure is not None
    return DeadLetterGroup(
        fingerprint=failure.fingerprint,
        error=failure.error,
        message=failure.message,
        count=len(dead),
        keys=len({each.event.key for each in dead}),
        consumers=tuple(sorted({each.consumer for each in dead})),
        event_types=tuple(sorted({each.event.event_type for each in dead})),
        first_seen=at(min(each.event.first_failed_at or 0 for each in dead)),
        last_seen=at(last.last_failed_at or 0),
        example=last.event.position,
        note=note,
    )


def _summary(consumer: str, waiting: Sequence[KeptEvent]) -> StuckSummary:
    counts = Counter(each.event.waits for each in waiting)
    return StuckSummary(
        consumer=consumer,
        keys=len({each.event.key for each in waiting}),
        retrying=counts[Waits.RETRYING],
        dead=counts[Waits.DEAD],
        held=counts[Waits.HELD],
        oldest=at(min(each.parked_at for each in waiting)),
    )
