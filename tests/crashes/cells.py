"""Which crash points can be reached by which service on which log, and by what kind of day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from orderflow.core.crash_points import Point
from orderflow.registry import SAGA

LOGS = ("postgres", "kafka")
MIGRATE = "migrate"
PUBLISHERS = ("order", "payment", "inventory")


class Day(StrEnum):
    """What happens to a running system so that a point is reached."""

    ORDERS = "orders are approved, declined and out of stock"
    UNSURE = "the bank fails twice before it answers"
    POISON = "events fail, are retried, given up and replayed"
    START = "the services are killed with orders under way, and start"
    DRAIN = "the services are stopped in good order with orders under way"
    REBALANCE = "a second process of each service joins"
    UPKEEP = "the outbox turns to its next segment"
    MIGRATE = "empty databases are migrated"


class Cell(NamedTuple):
    """One process dies at one point."""

    point: Point
    service: str
    log: str

    def __str__(self) -> str:
        return f"{self.point} at {self.service} on {self.log}"


@dataclass(frozen=True, slots=True)
class Reach:
    """How a point is reached: the day, by service. Who is not named cannot reach it, for the reason `why`."""

    days: Mapping[str, Day]
    why: str = ""
    logs: Sequence[str] = LOGS
    why_not_there: str = ""


def _all(day: Day) -> Reach:
    return Reach(dict.fromkeys(SAGA, day))


_PUBLISHED = {**dict.fromkeys(PUBLISHERS, Day.ORDERS), "notification": Day.POISON}
_APPENDED = Reach(
    _PUBLISHED, logs=("kafka",), why_not_there="the log in PostgreSQL appends in one statement: all of it or nothing"
)
_ASKED = Reach({"payment": Day.ORDERS}, why="it asks nobody outside")

REACHES: Mapping[Point, Reach] = {
    Point.TX_OPENING: _all(Day.ORDERS),
    Point.TX_OPENED: _all(Day.ORDERS),
    Point.TX_DECIDED: _all(Day.ORDERS),
    Point.TX_SENT: _all(Day.ORDERS),
    Point.TX_COMMITTED: _all(Day.ORDERS),
    Point.BATCH_TOLD: _all(Day.ORDERS),
    Point.COMMAND_ANSWERING: Reach(
        dict.fromkeys(("order", "inventory"), Day.ORDERS), why="no command is sent to it while orders flow"
    ),
    Point.CONSUMER_JOINED: _all(Day.START),
    Point.CONSUMER_POLLED: _all(Day.ORDERS),
    Point.CONSUMER_PROCESSED: _all(Day.ORDERS),
    Point.OFFSETS_NOTED: _all(Day.ORDERS),
    Point.OFFSETS_WRITING: _all(Day.ORDERS),
    Point.OFFSETS_WRITTEN: _all(Day.ORDERS),
    Point.PARTITIONS_REVOKED: _all(Day.REBALANCE),
    Point.RELAY_CLAIMED: _all(Day.START),
    Point.RELAY_READ: Reach(_PUBLISHED),
    Point.APPEND_QUEUED: _APPENDED,
    Point.APPEND_REPORTED: _APPENDED,
    Point.RELAY_ACKNOWLEDGED: Reach(_PUBLISHED),
    Point.RELAY_MARKED: Reach(_PUBLISHED),
    Point.INTENT_CLAIMED: Reach({"payment": Day.UNSURE}, why="it asks nobody outside"),
    Point.INTENT_ASKING: _ASKED,
    Point.INTENT_BOOKED: _ASKED,
    Point.INTENT_ANSWERED: _ASKED,
    Point.INTENT_CLOSED: _ASKED,
    Point.EVENT_PARKED: _all(Day.POISON),
    Point.EVENT_DEAD: _all(Day.POISON),
    Point.RETRY_DECIDED: _all(Day.POISON),
    Point.RETRY_COMMITTED: _all(Day.POISON),
    Point.PARKED_RELEASED: _all(Day.POISON),
    Point.REPLAY_BEGUN: _all(Day.POISON),
    Point.REPLAY_SENT: _all(Day.POISON),
    Point.REPLAY_STEPPED: _all(Day.POISON),
    Point.REPLAY_ENDING: _all(Day.POISON),
    Point.START_OPENED: _all(Day.START),
    Point.START_CLAIMED: _all(Day.START),
    Point.START_TOPICS: _all(Day.START),
    Point.START_RUNNING: _all(Day.START),
    Point.START_READY: _all(Day.START),
    Point.DRAIN_BEGUN: _all(Day.DRAIN),
    Point.DRAIN_CONSUMED: _all(Day.DRAIN),
    Point.DRAIN_ANSWERED: _all(Day.DRAIN),
    Point.DRAIN_PUBLISHED: _all(Day.DRAIN),
    Point.DRAIN_CLOSED: _all(Day.DRAIN),
    Point.OUTBOX_ROTATED: _all(Day.UPKEEP),
    Point.MIGRATION_APPLIED: Reach({MIGRATE: Day.MIGRATE}, why="services do not migrate, `orderflow migrate` does"),
}


def day_of(cell: Cell) -> Day | None:
    """None if the cell cannot be reached."""
    reach = REACHES[cell.point]
    return reach.days.get(cell.service) if cell.log in reach.logs else None


def why_not(cell: Cell) -> str:
    """Why the cell cannot be reached."""
    reach = REACHES[cell.point]
    return reach.why if cell.log in reach.logs else reach.why_not_there


def every_cell() -> Iterator[Cell]:
    """Reachable or not."""
    for point in Point:
        services = (MIGRATE,) if point is Point.MIGRATION_APPLIED else SAGA
        for service in services:
            for log in LOGS:
                yield Cell(point, service, log)


def rounds_of(cells: Sequence[Cell]) -> list[tuple[Day, list[Cell]]]:
    """Cells of one log, put together: in a round the services die on a day of one kind, each at another point."""
    rounds: list[tuple[Day, list[Cell]]] = []
    for day in Day:
        queues: dict[str, list[Cell]] = {}
        for cell in cells:
            if day_of(cell) is day:
                queues.setdefault(cell.service, []).append(cell)
        for number, queue in enumerate(queues.values()):
            # Not all at the same point at once.
            turn = number * len(queue) // max(1, len(queues))
            queue[:] = queue[turn:] + queue[:turn]
        while any(queues.values()):
            rounds.append((day, [queue.pop(0) for queue in queues.values() if queue]))
    return rounds


def part(cells: Sequence[Cell]) -> list[Cell]:
    """Each point once, logs in turn and services as evenly as can be: what takes a minute or two instead of many."""
    chosen: list[Cell] = []
    used: Counter[tuple[str, Day | None, str]] = Counter()
    by_choice = sorted(Point, key=lambda point: len(REACHES[point].days))
    for number, point in enumerate(by_choice):
        reachable = [cell for cell in cells if cell.point is point and day_of(cell) is not None]
        here = [cell for cell in reachable if cell.log == LOGS[number % len(LOGS)]] or reachable
        if here:
            cell = min(here, key=lambda each: used[each.log, day_of(each), each.service])
            used[cell.log, day_of(cell), cell.service] += 1
            chosen.append(cell)
    return chosen
