"""Crash points: places at which a process can be told to die, to test that what it leaves breaks no promise.

`reached(Point.X)` marks a place in the code, and does nothing unless the process is armed. An armed process dies
there as by a power cut: nothing is cleaned up, flushed or reported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import NoReturn

EXIT_CODE = 86
"""The exit code of a process that has died at a point."""


class Point(StrEnum):
    """The crash points by name; `cut` says what has been done at that point and what has not."""

    cut: str

    def __new__(cls, name: str, cut: str) -> Point:
        point = str.__new__(cls, name)
        point._value_ = name
        point.cut = cut
        return point

    # --- the one way in: a batch's unit of work
    TX_OPENING = "tx.opening", "A batch has been received; the database was not asked."
    TX_OPENED = "tx.opened", "Keys and rows are locked and read, with no transaction open; nothing is decided."
    TX_DECIDED = "tx.decided", "Everything is decided; nothing was sent, and the locks are held."
    TX_SENT = "tx.sent", "All writes were sent in one call; whether they are committed is not known yet."
    TX_COMMITTED = "tx.committed", "The commit has succeeded; the process does not know it yet."
    BATCH_TOLD = "batch.told", "The relay and the runner know of the commit; whoever submitted the batch does not."
    COMMAND_ANSWERING = "command.answering", "A command is committed; its HTTP answer was not sent."

    # --- consuming
    CONSUMER_JOINED = "consumer.joined", "The consumer joins its group; no record was read."
    CONSUMER_POLLED = "consumer.polled", "Records were taken from the log; nothing was done with them."
    CONSUMER_PROCESSED = "consumer.processed", "A batch of records is committed; no offset is."
    OFFSETS_NOTED = "offsets.noted", "Offsets are noted in memory; the log may not have them."
    OFFSETS_WRITING = "offsets.writing", "Noted offsets are about to be committed to the log."
    OFFSETS_WRITTEN = "offsets.written", "The log has the committed offsets; the process has just learned it."
    PARTITIONS_REVOKED = "partitions.revoked", "The group takes partitions away; the current batch has not ended."

    # --- publishing
    RELAY_CLAIMED = "relay.claimed", "Slots of the outbox are owned; no row was read."
    RELAY_READ = "relay.read", "Unsent rows were read; nothing was appended."
    APPEND_QUEUED = "append.queued", "Records are with the log's client, which may have sent some."
    APPEND_REPORTED = "append.reported", "The first record of an append is acknowledged, the others are not yet."
    RELAY_ACKNOWLEDGED = "relay.acknowledged", "The log has acknowledged all rows; none is marked as sent."
    RELAY_MARKED = "relay.marked", "Rows are marked as sent; nothing else has noticed."

    # --- asking the outside world
    INTENT_CLAIMED = "intent.claimed", "Due intents are leased from the database; none has been asked."
    INTENT_ASKING = "intent.asking", "It is an intent's turn; the outside world was not asked."
    INTENT_BOOKED = "intent.booked", "The outside world has acted; its answer was not read."
    INTENT_ANSWERED = "intent.answered", "The answer is known; it is not stored."
    INTENT_CLOSED = "intent.closed", "The answer is committed and the intent closed; its runner does not know."

    # --- what fails
    EVENT_PARKED = "event.parked", "A failed event is parked, or its next try is noted; COMMIT was not sent."
    EVENT_DEAD = "event.dead", "An event is given up and its dead letter written; COMMIT was not sent."
    RETRY_DECIDED = "retry.decided", "Parked events were retried; COMMIT was not sent."
    RETRY_COMMITTED = "retry.committed", "A retry is committed; the process does not know it yet."
    PARKED_RELEASED = "parked.released", "Parked events are handled and removed; COMMIT was not sent."

    # --- recovery
    REPLAY_BEGUN = "replay.begun", "A replay is stored; its operator has not been answered."
    REPLAY_SENT = "replay.sent", "Dead events were given back to their consumer; the replay's step was not noted."
    REPLAY_STEPPED = "replay.stepped", "A step of a replay is noted, so the next may be larger; others wait."
    REPLAY_ENDING = "replay.ending", "Every event of a replay has its outcome; the end of the replay was not noted."

    # --- starting and stopping
    START_OPENED = "start.opened", "The database was checked; the log was not asked."
    START_CLAIMED = (
        "start.claimed",
        "Topics and groups are claimed for the installation; topics may not have been created.",
    )
    START_TOPICS = "start.topics", "The topics exist; nothing runs yet."
    START_RUNNING = "start.running", "Everything runs; the service has not reported that it is ready."
    START_READY = "start.ready", "The service has reported that it is ready."
    DRAIN_BEGUN = "drain.begun", "A clean stop has begun: no more commands are accepted."
    DRAIN_CONSUMED = "drain.consumed", "The consumers have left their groups; commands and intents may be under way."
    DRAIN_ANSWERED = "drain.answered", "Commands and intents are finished; the outbox may have unsent rows."
    DRAIN_PUBLISHED = "drain.published", "The outbox is published; nothing is closed."
    DRAIN_CLOSED = "drain.closed", "The slots are given up; connections are open."

    # --- upkeep
    OUTBOX_ROTATED = "outbox.rotated", "The outbox may have moved to its next segment; old ones are not emptied."
    MIGRATION_APPLIED = "migration.applied", "A migration is committed; others are pending."


NEVER = "never"
_BY_NAME = {str(point): point for point in Point}
_ITEM = re.compile(r"(?:(?P<service>[a-z][a-z0-9_]*):)?(?P<point>[a-z-]+\.[a-z-]+)(?:@(?P<times>[1-9][0-9]{0,8}))?")

_left: dict[Point, int] | None = None
_die: Callable[[Point], None]


def reached(point: Point) -> None:
    """Die here, if this process is armed for it."""
    if _left is not None:
        _count(_left, point)


def reached_when_sent(point: Point) -> None:
    """Die here, if this process is armed for it, as soon as what is asked next has gone out and before its answer."""
    if _left is not None:
        from asyncio import get_running_loop

        get_running_loop().call_soon(_count, _left, point)


def parse(text: str, services: Sequence[str]) -> Mapping[str, Mapping[Point, int]]:
    """What `[SERVICE:]POINT[@N][,...]` or `never` asks for: by service ("" for all), at which time a point is deadly.

    Raises ValueError.
    """
    found: dict[str, dict[Point, int]] = {}
    for item in text.split(",") if text != NEVER else ():
        match = _ITEM.fullmatch(item.strip())
        point = _BY_NAME.get(match["point"]) if match is not None else None
        if match is None or point is None or match["service"] not in (None, *services):
            raise ValueError(item)
        found.setdefault(match["service"] or "", {})[point] = int(match["times"] or 1)
    return found


def arm(points: Mapping[Point, int], die: Callable[[Point], None] | None = None) -> None:
    """From now on this process dies when it has reached a point so many times; without points it is disarmed."""
    global _left, _die  # a process dies as a whole
    _left, _die = dict(points) or None, die or _end


def _count(left: dict[Point, int], point: Point) -> None:
    if point in left:
        left[point] -= 1
        if not left[point]:
            _die(point)


def _end(point: Point) -> NoReturn:
    with suppress(OSError):
        os.write(2, f"dies on purpose at the crash point {point}\n".encode())
    os._exit(EXIT_CODE)
