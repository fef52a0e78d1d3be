"""The recovery port: what operators' functions ask of a service's database.

Two implementations, one beside each store; one conformance suite holds for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from orderflow.core.operations.model import (
    DeadLetter,
    DeadLetterGroup,
    Expired,
    HistoryEntry,
    LetterFilter,
    OperatorAction,
    OutboxCopy,
    Overrule,
    Proposal,
    Replay,
    ReplayPlan,
    ReplayState,
    StoredLetter,
    StuckSummary,
    Trail,
)
from orderflow.core.store import Act, LogEntry, Store


class OperatedStore(Store, Protocol):
    """A service's database, with what operators ask of it."""

    @property
    def recovery(self) -> RecoveryStore: ...


class RecoveryStore(Protocol):
    """Every call is a transaction of its own. All raise StoreUnavailableError."""

    async def letters(self, chosen: LetterFilter, limit: int, after: int = 0) -> Sequence[DeadLetter]:
        """Parked events in order of position, from the one after position `after` on, at most `limit`."""
        ...

    async def letter(self, event: UUID | int) -> StoredLetter | None:
        """A parked or dead event, with its record, by its event id (the original's, too) or position."""
        ...

    async def events_ending(self, digits: str, limit: int) -> Sequence[UUID]:
        """Ids that end with these hexadecimal digits, of events that wait or have ever failed, at most `limit`."""
        ...

    async def history(self, event: UUID | int) -> Sequence[HistoryEntry]:
        """What has happened to an event, oldest first, by its event id (before or after an edit) or position.

        Kept for ever, like the inbox: also of an event that waits no longer.
        """
        ...

    async def trail(self, key: str) -> Trail:
        """What there is of one key in inbox, outbox and intents, each in the order in which it came."""
        ...

    async def outbox_of(self, key: str) -> Sequence[OutboxCopy]:
        """What the outbox has of one key, in order of id. There is no index for it: all is looked through."""
        ...

    async def groups(self, chosen: LetterFilter) -> Sequence[DeadLetterGroup]:
        """Dead events by fingerprint, largest group first; the state in `chosen` is not looked at."""
        ...

    async def annotate(self, fingerprint: str, note: str, act: Act) -> None:
        """Set the note of a group ("" takes it away), and log it as the action `note`."""
        ...

    async def summary(self) -> Sequence[StuckSummary]:
        """One line for each consumer that has anything parked or dead."""
        ...

    async def log(self, entry: LogEntry) -> None:
        """Add a row to the operators' log, for what has changed nothing: an act writes its own."""
        ...

    async def propose(self, proposal: Proposal, digest: str, act: Act) -> Proposal:
        """Keep it for PROPOSAL_HOLDS_MS; logged. Returns the one of this digest that is open: it, or an earlier one.

        Its times are given by the store.
        """
        ...

    async def proposal(self, number: UUID) -> Proposal | None:
        """A proposal by its id."""
        ...

    async def proposals(self, limit: int, *, only_open: bool) -> Sequence[Proposal]:
        """Proposals, latest first."""
        ...

    async def withdraw(self, number: UUID, act: Act) -> bool:
        """Nobody can approve it any more; logged. False: it was not open."""
        ...

    async def actions(self, limit: int, before: int | None = None) -> Sequence[OperatorAction]:
        """The operators' log, latest first, from the one before number `before` on."""
        ...

    async def note_expired(self, lost: Sequence[Expired]) -> Sequence[Expired]:
        """Keep what was lost, for good; returns what was not known yet, or is more than was known."""
        ...

    async def expired(self) -> Sequence[Expired]:
        """What was lost and nobody has acknowledged."""
        ...

    async def acknowledge_expired(self, consumer: str, act: Act) -> int:
        """An operator knows of all that this consumer has lost; logged. Returns how many records that are."""
        ...

    async def begin_replay(
        self, events: Sequence[int], plan: ReplayPlan, act: Act, lag_before: int, meant: str
    ) -> Replay:
        """A new replay, RUNNING and none sent yet, of what is dead at these positions; the rest is left out.

        Logged, with what was `meant`.
        """
        ...

    async def replay(self, number: int) -> Replay | None:
        """A replay with its progress as the parked events and the inbox tell it.

        An outcome that is known is written down, so that what happens to the event later does not change it.
        """
        ...

    async def replays(self, limit: int) -> Sequence[Replay]:
        """The latest replays, latest first."""
        ...

    async def claim_replay(self, lease_ms: int) -> Replay | None:
        """A RUNNING replay that no other process works on, leased to this one for `lease_ms` by the database's clock.

        Asked again, it renews: a process gets the replay that it has before any other.
        """
        ...

    async def send(self, replay: int, limit: int) -> Sequence[tuple[str, str]]:
        """Make the next `limit` events of a replay due at once; returns their (consumer, key), each once.

        In order of position. Only what is still dead is sent, so an event is never sent twice at once; others that
        come before are counted as gone. Only the process that has claimed the replay sends, and only while it is
        RUNNING; otherwise nothing happens. Whether anything is left to send is told by the progress.
        """
        ...

    async def finish_step(self, replay: int, step: int, state: ReplayState, why: str = "", result: str = "") -> bool:
        """Go on with `step`, or end, which is logged with its `result`. Says `why` it was stopped.

        False, and nothing is changed: the replay is not RUNNING any more (an operator paused it), or another process
        has claimed it.
        """
        ...

    async def pause_replay(self, replay: int, act: Act, why: str = "") -> bool:
        """RUNNING → PAUSED, whoever works on it; logged. False: it was not RUNNING. What is under way goes on."""
        ...

    async def resume_replay(self, replay: int, act: Act) -> bool:
        """PAUSED or STOPPED → RUNNING, free to be claimed; logged. False: it was neither."""
        ...

    async def overrule(self, overrule: Overrule, act: Act, result: str) -> Overrule:
        """Set it in the place of an earlier one of that consumer and type; logged as `overrule` with this result."""
        ...

    async def overrules(self) -> Sequence[Overrule]:
        """Those that hold: set no longer than OVERRULE_HOLDS_MS ago. By consumer and type."""
        ...
