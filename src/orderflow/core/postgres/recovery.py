"""Parked events as rows, and the recovery port on PostgreSQL: what operators see and do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec.structs import replace

from orderflow.core.failures import Verdict
from orderflow.core.inbox import EditedEvent, Failure, InboxState, ParkedEvent, waits
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
from orderflow.core.postgres.queries import load_queries
from orderflow.core.store import Act, LogEntry
from orderflow.core.transport import ConsumerRecord, Headers

PACKAGE = "orderflow.core.postgres"
Run = Callable[..., Awaitable[Sequence[asyncpg.Record]]]


def counting_query() -> str:
    """The statement by which a service counts what waits in it, for whoever reads its database from outside."""
    return load_queries(PACKAGE, "recovery.sql")["stuck_summary"]


class PostgresRecovery:
    """See `core.operations.port.RecoveryStore`.

    `run` runs one query with its arguments. `process` is the name under which replays are claimed.
    """

    def __init__(self, run: Run, process: str) -> None:
        self._run = run
        self._process = process
        self._queries = load_queries(PACKAGE, "recovery.sql")
        self._log_actions = load_queries(PACKAGE)["log_actions"]
        self._replay_queries = load_queries(PACKAGE, "replays.sql")

    async def letters(self, chosen: LetterFilter, limit: int, after: int = 0) -> Sequence[DeadLetter]:
        bounds = (after, limit, *_narrowing(chosen))
        if chosen.state is InboxState.DEAD:
            rows = await self._run(self._queries["dead_letters"], *bounds)
        else:
            rows = await self._run(self._queries["letters"], *bounds, chosen.state)
        return [_letter(row) for row in rows]

    async def letter(self, event: UUID | int) -> StoredLetter | None:
        query = "letter_by_position" if isinstance(event, int) else "letter_by_event"
        rows = await self._run(self._queries[query], event)
        return _stored(rows[0]) if rows else None

    async def events_ending(self, digits: str, limit: int) -> Sequence[UUID]:
        return [row["event_id"] for row in await self._run(self._queries["events_ending"], digits, limit)]

    async def history(self, event: UUID | int) -> Sequence[HistoryEntry]:
        query = "history_by_position" if isinstance(event, int) else "history_by_event"
        return [
            HistoryEntry(**{**row, "moment": Moment(row["moment"])})
            for row in await self._run(self._queries[query], event)
        ]

    async def trail(self, key: str) -> Trail:
        received = await self._run(self._queries["trail_received"], key)
        return Trail(
            received=[ReceivedEvent(**{**row, "state": InboxState(row["state"]).word}) for row in received],
            unsent=[UnsentEvent(**row) for row in await self._run(self._queries["trail_unsent"], key)],
            asked=[OpenQuestion(**row) for row in await self._run(self._queries["trail_asked"], key)],
        )

    async def outbox_of(self, key: str) -> Sequence[OutboxCopy]:
        rows = await self._run(self._queries["outbox_of_key"], key)
        return [OutboxCopy(**{**row, "value": Content.of(row["value"])}) for row in rows]

    async def groups(self, chosen: LetterFilter) -> Sequence[DeadLetterGroup]:
        rows = await self._run(self._queries["letter_groups"], *_narrowing(chosen))
        return [_group(row) for row in rows]

    async def annotate(self, fingerprint: str, note: str, act: Act) -> None:
        result = note or "the note was taken away"
        await self._run(self._queries["annotate"], fingerprint, note, act.who, act.reason, result)

    async def summary(self) -> Sequence[StuckSummary]:
        rows = await self._run(self._queries["stuck_summary"])
        return [StuckSummary(**row) for row in rows]

    async def log(self, entry: LogEntry) -> None:
        await self._run(self._log_actions, *log_entries([entry]))

    async def propose(self, proposal: Proposal, digest: str, act: Act) -> Proposal:
        await self._run(self._queries["expire_proposals"])
        found: Sequence[asyncpg.Record] = ()
        while not found:
            given = (proposal.id, digest, proposal.operation, proposal.request, act.caller.name, act.reason)
            await self._run(self._queries["propose"], *given, PROPOSAL_HOLDS_MS, act.who)
            found = await self._run(self._queries["open_proposal"], digest)
        return _proposal(found[0])

    async def proposal(self, number: UUID) -> Proposal | None:
        rows = await self._run(self._queries["proposal"], number)
        return _proposal(rows[0]) if rows else None

    async def proposals(self, limit: int, *, only_open: bool) -> Sequence[Proposal]:
        return [_proposal(row) for row in await self._run(self._queries["proposals"], limit, only_open)]

    async def withdraw(self, number: UUID, act: Act) -> bool:
        return bool(await self._run(self._queries["withdraw_proposal"], number, act.caller.name, act.reason, act.who))

    async def actions(self, limit: int, before: int | None = None) -> Sequence[OperatorAction]:
        return [OperatorAction(**row) for row in await self._run(self._queries["actions"], limit, before)]

    async def note_expired(self, lost: Sequence[Expired]) -> Sequence[Expired]:
        columns = zip(*((e.consumer, e.topic, e.partition, e.first_lost, e.next_kept) for e in lost), strict=True)
        rows = await self._run(self._queries["note_expired"], *columns) if lost else ()
        return [Expired(*row) for row in rows]

    async def expired(self) -> Sequence[Expired]:
        return [Expired(*row) for row in await self._run(self._queries["expired"])]

    async def acknowledge_expired(self, consumer: str, act: Act) -> int:
        rows = await self._run(self._queries["acknowledge_expired"], consumer, act.who, act.reason)
        return int(rows[0][0])

    async def begin_replay(
        self, events: Sequence[int], plan: ReplayPlan, act: Act, lag_before: int, meant: str
    ) -> Replay:
        given = (events, msgspec.json.encode(plan).decode(), act.who, act.reason, lag_before, meant)
        return _replay((await self._run(self._replay_queries["begin_replay"], *given))[0])

    async def replay(self, number: int) -> Replay | None:
        rows = await self._run(self._replay_queries["replays"], number, 1)
        return _replay(rows[0]) if rows else None

    async def replays(self, limit: int) -> Sequence[Replay]:
        return [_replay(row) for row in await self._run(self._replay_queries["replays"], None, limit)]

    async def claim_replay(self, lease_ms: int) -> Replay | None:
        claimed = await self._run(self._replay_queries["claim_replay"], self._process, lease_ms)
        return await self.replay(claimed[0]["number"]) if claimed else None

    async def send(self, replay: int, limit: int) -> Sequence[tuple[str, str]]:
        rows = await self._run(self._replay_queries["send"], replay, limit, self._process)
        return [(row["consumer"], row["key"]) for row in rows]

    async def finish_step(self, replay: int, step: int, state: ReplayState, why: str = "", result: str = "") -> bool:
        query = self._replay_queries["finish_step"]
        return bool(await self._run(query, replay, step, state, why, self._process, result))

    async def pause_replay(self, replay: int, act: Act, why: str = "") -> bool:
        return bool(await self._run(self._replay_queries["pause_replay"], replay, why, act.who, act.reason))

    async def resume_replay(self, replay: int, act: Act) -> bool:
        return bool(await self._run(self._replay_queries["resume_replay"], replay, act.who, act.reason))

    async def overrule(self, overrule: Overrule, act: Act, result: str) -> Overrule:
        said = (overrule.consumer, overrule.event_type, overrule.verdict.value, act.who, act.reason, result)
        return _overrule((await self._run(self._queries["overrule"], *said))[0])

    async def overrules(self) -> Sequence[Overrule]:
        return [_overrule(row) for row in await self._run(self._queries["overrules"], OVERRULE_HOLDS_MS)]


def _narrowing(chosen: LetterFilter) -> Sequence[object]:
    """The arguments of a filter, all but its state; the events that it names come last, as ids and as positions."""
    ids = positions = None
    if chosen.events is not None:
        positions = [event for event in chosen.events if isinstance(event, int)]
        ids = [event for event in chosen.events if not isinstance(event, int)]
    where = (chosen.consumer, chosen.topic, chosen.event_type, chosen.fingerprint, chosen.key)
    return (*where, chosen.older_than_ms, ids, positions)


def _letter(row: asyncpg.Record) -> DeadLetter:
    return DeadLetter(**{**row, "state": waits(STATES[row["state"]], row["attempts"])})


def _stored(row: asyncpg.Record) -> StoredLetter:
    event, original = read_parked(row), None
    if row["original_id"] is not None:
        headers = decode_headers(row["original_headers"])
        original = replace(event.record, key=row["original_key"], value=row["original_value"], headers=headers)
    letter = DeadLetter.of(
        event,
        consumer=row["consumer"],
        behind=row["behind"],
        edited=original is not None,
        parked_at=row["parked_at"],
        first_failed_at=row["first_failed_at"],
        last_failed_at=row["last_failed_at"],
        next_attempt_at=row["next_attempt_at"],
    )
    return StoredLetter(letter=letter, event=event, original=original, original_id=row["original_id"])


def _group(row: asyncpg.Record) -> DeadLetterGroup:
    lists = {name: tuple(row[name]) for name in ("consumers", "event_types")}
    return DeadLetterGroup(**{**row, **lists})


def _replay(row: asyncpg.Record) -> Replay:
    progress = ReplayProgress(**{name: row[name] for name in ReplayProgress.__struct_fields__})
    told = {name: row[name] for name in ("number", "why", "who", "reason", "created_at", "step", "lag_before")}
    return Replay(plan=_plan(row["plan"]), state=ReplayState(row["state"]), progress=progress, **told)


def _plan(stored: str) -> ReplayPlan:
    """What a newer release has stored beside it, while both run, is left out."""
    known = {
        name: value for name, value in msgspec.json.decode(stored).items() if name in ReplayPlan.__struct_fields__
    }
    return msgspec.convert(known, ReplayPlan)


def _proposal(row: asyncpg.Record) -> Proposal:
    return Proposal(**{**row, "state": ProposalState(row["state"])})


def _overrule(row: asyncpg.Record) -> Overrule:
    return Overrule(**{**row, "verdict": Verdict(row["verdict"])})


encode_headers = msgspec.msgpack.Encoder().encode
decode_headers = msgspec.msgpack.Decoder(Headers).decode
STATES: Mapping[int, InboxState] = {state.value: state for state in InboxState}
PARKED: Mapping[str, str] = {
    "key": "text",
    "identity": "text",
    "event_id": "uuid",
    "event_type": "text",
    "topic": "text",
    "partition": "integer",
    "offset": "bigint",
    "record_key": "bytea",
    "record_value": "bytea",
    "record_headers": "bytea",
    "record_timestamp": "bigint",
    "intent": "text",
    "state": "smallint",
    "attempts": "integer",
    "failure_kind": "text",
    "error": "text",
    "message": "text",
    "fingerprint": "text",
    "position": "bigint",
    "first_failed_at": "timestamptz",
    "replays": "integer",
}
"""The columns of a parked event as `open` returns them."""
Values = tuple[object, ...]


def log_entries(entries: Sequence[LogEntry]) -> Sequence[Values]:
    """As columns, in order."""
    rows = [(e.act.who, e.action, e.target, e.act.reason, e.result) for e in entries]
    return list(zip(*rows, strict=True))


def parked(events: Sequence[ParkedEvent]) -> Sequence[Values]:
    """As columns, and so are the next two."""
    rows = [(*_record(e), e.state, e.attempts, *_failure(e.failure), e.delay_ms) for e in events]
    return list(zip(*rows, strict=True))


def reparked(events: Sequence[ParkedEvent]) -> Sequence[Values]:
    rows = [(e.position, e.state, e.attempts, *_failure(e.failure), e.delay_ms) for e in events]
    return list(zip(*rows, strict=True))


def edited(events: Sequence[EditedEvent]) -> Sequence[Values]:
    rows = [(e.position, e.event_id, e.identity, e.event_type, *_content(e.record), e.who) for e in events]
    return list(zip(*rows, strict=True))


def read_parked(row: asyncpg.Record | Mapping[str, Any]) -> ParkedEvent:
    """From a row of `parked_events`."""
    failure = None
    first_failed_at = row["first_failed_at"]
    if row["failure_kind"] is not None:
        failure = Failure(row["failure_kind"], row["error"], row["message"], row["fingerprint"])
    return ParkedEvent(
        key=row["key"],
        identity=row["identity"],
        event_id=row["event_id"],
        event_type=row["event_type"],
        record=ConsumerRecord(
            topic=row["topic"],
            partition=row["partition"],
            offset=row["offset"],
            key=row["record_key"],
            value=row["record_value"],
            headers=decode_headers(row["record_headers"]),
            timestamp=row["record_timestamp"],
        ),
        state=STATES[row["state"]],
        attempts=row["attempts"],
        failure=failure,
        position=row["position"],
        intent=row["intent"],
        first_failed_at=int(first_failed_at.timestamp() * 1000) if first_failed_at else None,
        replays=row["replays"],
    )


def _record(event: ParkedEvent) -> Values:
    record = event.record
    where = (event.key, event.identity, event.event_id, event.event_type, record.topic, record.partition)
    return (*where, record.offset, *_content(record), record.timestamp, event.intent)


def _content(record: ConsumerRecord) -> tuple[bytes | None, ...]:
    return (record.key, record.value, encode_headers(record.headers))


def _failure(failure: Failure | None) -> tuple[str | None, ...]:
    if failure is None:
        return (None, None, None, None)
    return (failure.kind, failure.error, failure.message, failure.fingerprint)
