"""The recovery port on PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import asyncpg
import msgspec

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
    OperatorAction,
    Overrule,
    ParkedSummary,
    Replay,
    ReplayPlan,
    ReplayState,
)
from orderflow.messaging.stores.postgres.queries import load_queries
from orderflow.messaging.stores.postgres.recovery_rows import (
    narrowing,
    read_action,
    read_group,
    read_history,
    read_letter,
    read_overrule,
    read_replay,
    read_summary,
)

PACKAGE = "orderflow.messaging.stores.postgres"
Run = Callable[..., Awaitable[Sequence[asyncpg.Record]]]


def counting_query() -> str:
    """The statement by which a service counts what waits in it, for whoever reads its database from outside."""
    return load_queries(PACKAGE, "recovery.sql")["parked_summary"]


class PostgresRecovery:
    """See `messaging.recovery.port.RecoveryStore`.

    `run` runs one query with its arguments. `process` is the name under which replays are claimed.
    """

    def __init__(self, run: Run, process: str) -> None:
        self._run = run
        self._process = process
        self._queries = load_queries(PACKAGE, "recovery.sql")
        self._log_action = load_queries(PACKAGE)["log_action"]
        self._replay_queries = load_queries(PACKAGE, "replays.sql")

    async def letters(self, wanted: LetterFilter, limit: int, after: int = 0) -> Sequence[Letter]:
        if wanted.state is InboxState.DEAD:
            rows = await self._run(self._queries["dead_letters"], after, limit, *narrowing(wanted), LETTERS_BYTES_MAX)
        else:
            bounds = (*narrowing(wanted), LETTERS_BYTES_MAX, wanted.state)
            rows = await self._run(self._queries["letters"], after, limit, *bounds)
        return [read_letter(row) for row in rows]

    async def letter(self, event: UUID | int) -> Letter | None:
        query = "letter_by_position" if isinstance(event, int) else "letter_by_event"
        rows = await self._run(self._queries[query], event)
        return read_letter(rows[0]) if rows else None

    async def events_ending(self, digits: str, limit: int) -> Sequence[UUID]:
        return [row["event_id"] for row in await self._run(self._queries["events_ending"], digits, limit)]

    async def sequence(self, consumer: str, key: str, limit: int) -> Sequence[Letter]:
        rows = await self._run(self._queries["letters_of_key"], consumer, key, limit)
        return [read_letter(row) for row in rows]

    async def history(self, event: UUID | int) -> Sequence[HistoryEntry]:
        query = "history_by_position" if isinstance(event, int) else "history_by_event"
        return [read_history(row) for row in await self._run(self._queries[query], event)]

    async def groups(self, wanted: LetterFilter) -> Sequence[LetterGroup]:
        rows = await self._run(self._queries["letter_groups"], *narrowing(wanted))
        return [read_group(row) for row in rows]

    async def annotate(self, fingerprint: str, note: str, act: Act) -> None:
        result = note or "the note was taken away"
        await self._run(self._queries["annotate"], fingerprint, note, act.who, act.reason, result)

    async def summary(self) -> Sequence[ParkedSummary]:
        rows = await self._run(self._queries["parked_summary"])
        return [read_summary(row) for row in rows]

    async def log(self, act: Act, action: str, target: str, result: str) -> None:
        await self._run(self._log_action, act.who, action, target, act.reason, result)

    async def actions(self, limit: int, before: int | None = None) -> Sequence[OperatorAction]:
        return [read_action(row) for row in await self._run(self._queries["actions"], limit, before)]

    async def note_expired(self, lost: Sequence[Expired]) -> Sequence[Expired]:
        columns = zip(*((e.consumer, e.topic, e.partition, e.first_lost, e.next_kept) for e in lost), strict=True)
        rows = await self._run(self._queries["note_expired"], *columns) if lost else ()
        return [Expired(*row) for row in rows]

    async def expired(self) -> Sequence[Expired]:
        return [Expired(*row) for row in await self._run(self._queries["expired"])]

    async def acknowledge_expired(self, consumer: str, act: Act) -> int:
        rows = await self._run(self._queries["acknowledge_expired"], consumer, act.who, act.reason)
        return int(rows[0][0])

    async def begin_replay(self, events: Sequence[int], plan: ReplayPlan, act: Act, lag_before: int) -> Replay:
        query = self._replay_queries["begin_replay"]
        rows = await self._run(query, events, msgspec.json.encode(plan).decode(), act.who, act.reason, lag_before)
        return read_replay(rows[0])

    async def replay(self, number: int) -> Replay | None:
        rows = await self._run(self._replay_queries["replays"], number, 1)
        return read_replay(rows[0]) if rows else None

    async def replays(self, limit: int) -> Sequence[Replay]:
        return [read_replay(row) for row in await self._run(self._replay_queries["replays"], None, limit)]

    async def claim_replay(self, lease_ms: int) -> Replay | None:
        claimed = await self._run(self._replay_queries["claim_replay"], self._process, lease_ms)
        return await self.replay(claimed[0]["number"]) if claimed else None

    async def send(self, replay: int, limit: int) -> Sequence[tuple[str, str]]:
        rows = await self._run(self._replay_queries["send"], replay, limit, self._process)
        return [(row["consumer"], row["key"]) for row in rows]

    async def finish_step(self, replay: int, step: int, state: ReplayState, why: str = "") -> bool:
        query = self._replay_queries["finish_step"]
        return bool(await self._run(query, replay, step, state, why, self._process))

    async def pause_replay(self, replay: int, why: str = "") -> bool:
        return bool(await self._run(self._replay_queries["pause_replay"], replay, why))

    async def resume_replay(self, replay: int) -> bool:
        return bool(await self._run(self._replay_queries["resume_replay"], replay))

    async def overrule(self, overrule: Overrule, act: Act, result: str) -> Overrule:
        said = (overrule.consumer, overrule.event_type, overrule.verdict.value, act.who, act.reason, result)
        return read_overrule((await self._run(self._queries["overrule"], *said))[0])

    async def overrules(self) -> Sequence[Overrule]:
        return [read_overrule(row) for row in await self._run(self._queries["overrules"], OVERRULE_HOLDS_MS)]
