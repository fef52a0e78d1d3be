"""The saga as a picture: services and topics with rates and lag, and the state machine with what moves on it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderflow.console.live import Parts
from orderflow.console.pages import Pages
from orderflow.console.sampling import Reading, ServiceReading, rate
from orderflow.console.showing import duration
from orderflow.core.service import Service
from orderflow.registry import SAGA, service_names, service_of
from orderflow.services.order.model import MACHINE
from orderflow.services.order.storage import Dwell, Unfinished

BEHIND_IS_MUCH = 1_000
LATE_S = 60.0


@dataclass(frozen=True, slots=True)
class Tile:
    """A number that says how things are. `tone` is good, warn, bad or quiet; `href` leads to what to do about it."""

    label: str
    value: float | None
    unit: str
    tone: str = "quiet"
    href: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A service in the picture: its upper left corner."""

    name: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Pipe:
    """How a topic leads to a reader. `path` is SVG's; the label stands at (x, y)."""

    topic: str
    reader: str
    path: str
    x: int
    y: int
    anchor: str = "middle"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything stands, in units of the picture."""

    name: str
    width: int
    height: int
    box_width: int
    box_height: int
    boxes: Sequence[Box]
    pipes: Sequence[Pipe]


WIDE = Layout(
    "wide",
    1160,
    446,
    210,
    114,
    (Box("order", 16, 166), Box("payment", 475, 16), Box("inventory", 934, 166), Box("notification", 475, 316)),
    (
        Pipe("order-events", "payment", "M121 166 C121 80 260 44 470 44", 236, 62),
        Pipe("payment-status", "order", "M475 96 C390 104 300 150 228 196", 372, 134),
        Pipe("payment-status", "inventory", "M685 44 C900 44 1039 80 1039 161", 924, 62),
        Pipe("payment-status", "notification", "M580 130 V311", 580, 270),
        Pipe("inventory-status", "payment", "M934 196 C862 150 772 104 690 96", 790, 134),
        Pipe("inventory-status", "order", "M934 220 H232", 400, 222),
        Pipe("inventory-status", "notification", "M1039 280 C1039 350 900 386 690 386", 924, 372),
    ),
)
TALL = Layout(
    "tall",
    360,
    740,
    188,
    88,
    (Box("order", 86, 8), Box("payment", 86, 220), Box("inventory", 86, 432), Box("notification", 86, 644)),
    (
        Pipe("order-events", "payment", "M150 96 V215", 140, 136, "end"),
        Pipe("payment-status", "order", "M210 220 V101", 220, 182, "start"),
        Pipe("payment-status", "inventory", "M150 308 V427", 140, 394, "end"),
        Pipe("inventory-status", "payment", "M210 432 V313", 220, 350, "start"),
        Pipe("inventory-status", "notification", "M180 520 V639", 170, 560, "end"),
        Pipe("payment-status", "notification", "M274 264 C352 284 352 668 279 688", 358, 606, "end"),
        Pipe("inventory-status", "order", "M86 476 C6 456 6 72 81 52", 4, 182, "start"),
    ),
)


ROW_GAP = 28
LABEL_HEIGHT = 44


def extended(layout: Layout, further: Sequence[Service]) -> Layout:
    """With the services outside of the saga in rows below, each under the topics that it reads."""
    across = max(1, layout.width // (layout.box_width + 2 * ROW_GAP))
    left = min(box.x for box in layout.boxes)
    step = (layout.width - 2 * left - layout.box_width) // max(1, across - 1)
    boxes, pipes, bottom = list(layout.boxes), list(layout.pipes), layout.height
    for start in range(0, len(further), across):
        row = [(service, service.reads) for service in further[start : start + across]]
        top = bottom + ROW_GAP + LABEL_HEIGHT * max(len(topics) for _, topics in row)
        for column, (service, topics) in enumerate(row):
            x = left + column * step
            boxes.append(Box(service.name, x, top))
            pipes += _pipes_into(service.name, topics, range(x + 24, x + layout.box_width - 24), top)
        bottom = top + layout.box_height
    height = bottom + 16 if further else layout.height
    return replace(layout, height=height, boxes=boxes, pipes=pipes)


def _pipes_into(reader: str, topics: Sequence[str], across: range, top: int) -> Iterator[Pipe]:
    """From above, the first from highest, so that its label stands over the next ones."""
    for number, topic in enumerate(topics):
        at = across[number * min(30, len(across) // len(topics))]
        y = top - LABEL_HEIGHT * (len(topics) - number)
        yield Pipe(topic, reader, f"M{at} {y} V{top - 5}", at + 10, y + 16, "start")


@cache
def layouts() -> Sequence[Layout]:
    """For a wide page and a narrow one. Raises RegistryError."""
    further = [service_of(name) for name in service_names() if name not in SAGA]
    return tuple(extended(each, further) for each in (WIDE, TALL))


def pace_of(rate: float | None) -> str:
    """How fast a line seems to move."""
    if not rate or rate < 0.05:
        return "still"
    return "fast" if rate >= 100 else "brisk" if rate >= 10 else "slow"


@dataclass(frozen=True, slots=True)
class Current:
    """What flows through a pipe: events a second, None where nobody knows yet, and how many wait."""

    rate: float | None
    behind: int

    @property
    def tone(self) -> str:
        return "warn" if self.behind >= BEHIND_IS_MUCH else "quiet"

    @property
    def pace(self) -> str:
        return pace_of(self.rate)


@dataclass(frozen=True, slots=True)
class Edge:
    """A transition of the state machine: how often, how fast, and how often what is stored ruled the event out."""

    before: str
    event: str
    after: str
    count: int
    rate: float | None
    refused: int
    median_ms: int | None
    slow_ms: int | None

    @property
    def pace(self) -> str:
        return pace_of(self.rate)


@dataclass(frozen=True, slots=True)
class ConsumerRow:
    """One consumer on one topic, all partitions together."""

    service: str
    consumer: str
    topic: str
    partitions: int
    rate: float | None
    behind: int


@dataclass(frozen=True, slots=True)
class FlowView:
    """All that the Flow shows of the last readings."""

    tiles: Sequence[Tile]
    services: Mapping[str, ServiceReading]
    handled: Mapping[str, float | None]
    currents: Mapping[tuple[str, str], Current]
    appended: Mapping[str, float | None]
    edges: Sequence[Edge]
    unfinished: Mapping[str, Unfinished]
    placed: int
    consumers: Sequence[ConsumerRow]


def flow_of(readings: Sequence[Reading]) -> FlowView:
    """`readings` oldest first, at least one."""
    latest = readings[-1]
    rows = list(_consumers(readings))
    return FlowView(
        tiles=tuple(_tiles(readings)),
        services=latest.services,
        handled={name: rate(readings, "handled", name, "handled") for name in latest.services},
        currents={
            (topic, service): Current(
                None if any(row.rate is None for row in found) else sum(row.rate or 0 for row in found),
                sum(row.behind for row in found),
            )
            for topic, service in {(row.topic, row.service) for row in rows}
            for found in [[row for row in rows if (row.topic, row.service) == (topic, service)]]
        },
        appended={topic: rate(readings, "appended", topic) for topic in sorted({row.topic for row in rows})},
        edges=tuple(_edges(readings)),
        unfinished={each.status: each for each in (latest.states.unfinished if latest.states else ())},
        placed=round(latest.total("handled", "order", "handled", "PlaceOrder")),
        consumers=rows,
    )


def traced(readings: Sequence[Reading]) -> Sequence[float | None]:
    """For the chart: how many were placed, completed and failed a second."""
    return [_ends(readings, *events) for events in (("PlaceOrder",), COMPLETING, FAILING)]


COMPLETING = tuple(event for (_, event), after in MACHINE.transitions.items() if after == "COMPLETED")
FAILING = tuple(event for (_, event), after in MACHINE.transitions.items() if after == "FAILED")


def _ends(readings: Sequence[Reading], *events: str) -> float | None:
    found = [rate(readings, "handled", "order", "handled", event) for event in events]
    return None if None in found else round(sum(each or 0 for each in found), 1)


def _tiles(readings: Sequence[Reading]) -> Iterator[Tile]:
    latest = readings[-1].services.values()
    failed = _ends(readings, *FAILING)
    yield Tile("Placed", _ends(readings, "PlaceOrder"), "per second", href="/orders")
    yield Tile("Completed", _ends(readings, *COMPLETING), "per second", "good", href="/orders?status=COMPLETED")
    yield Tile("Failed", failed, "per second", "warn" if failed else "quiet", href="/orders?status=FAILED")
    yield _under_way(readings[-1])
    behind, outbox = sum(each.behind for each in latest), sum(each.outbox for each in latest)
    yield Tile("Behind", behind, "events in topics", "warn" if behind >= BEHIND_IS_MUCH else "quiet", "/health")
    yield Tile("Outbox", outbox, "events unsent", "warn" if outbox >= BEHIND_IS_MUCH else "quiet", "/health")
    stuck = [each.stuck for each in latest]
    retrying = sum(each["retrying"] for each in stuck)
    yield Tile("Retrying", retrying, "events", "warn" if retrying else "quiet", "/dead-letters?state=retrying")
    dead = sum(each["dead"] for each in stuck)
    yield Tile("Dead", dead, "letters", "bad" if dead else "quiet", "/dead-letters")


def _under_way(reading: Reading) -> Tile:
    """An order that has not ended for long is what customers feel."""
    states = reading.states
    if states is None:
        return Tile("Under way", None, "orders", href="/orders?status=PENDING")
    oldest = min((each.oldest for each in states.unfinished), default=None)
    waited_s = reading.wall_ms / 1000 - oldest.timestamp() if oldest else 0.0
    count = sum(each.orders for each in states.unfinished)
    unit = f"the oldest {duration(waited_s * 1000)}" if count else "orders"
    status = states.unfinished[0].status if count else "PENDING"
    tone = "warn" if waited_s >= LATE_S else "quiet"
    return Tile("Under way", count, unit, tone, f"/orders?status={status}")


def _consumers(readings: Sequence[Reading]) -> Iterator[ConsumerRow]:
    for name, service in readings[-1].services.items():
        for consumer, topic in dict.fromkeys((row.consumer, row.topic) for row in service.lag):
            rows = [row for row in service.lag if (row.consumer, row.topic) == (consumer, topic)]
            yield ConsumerRow(
                name,
                consumer,
                topic,
                len(rows),
                rate(readings, "committed", consumer, topic),
                sum(row.lag for row in rows),
            )


def _edges(readings: Sequence[Reading]) -> Iterator[Edge]:
    latest = readings[-1]
    for (before, event), after in MACHINE.transitions.items():
        name = ("handled", "order", "handled", event)
        dwell = next((each for each in _dwells(latest) if (each.status, each.event) == (before, event)), None)
        yield Edge(
            before=before,
            event=event,
            after=after,
            count=round(latest.total(*name)),
            rate=rate(readings, *name),
            refused=round(latest.total("refused", "order", event)),
            median_ms=dwell.median_ms if dwell else None,
            slow_ms=dwell.slow_ms if dwell else None,
        )


def _dwells(reading: Reading) -> Sequence[Dwell]:
    return reading.states.dwell if reading.states else ()


def routes(pages: Pages) -> Sequence[Route]:
    """The first page, and its stream."""

    async def show(request: Request) -> Response:
        await pages.sampler.fresh()
        return pages.html(request, "flow.html", view=flow_of(pages.sampler.readings), layouts=layouts())

    async def live(request: Request) -> Response:
        return pages.stream(_parts(pages, request))

    return (Route("/", show), Route("/live/flow", live))


async def _parts(pages: Pages, request: Request) -> AsyncIterator[Parts]:
    sampler = pages.sampler
    async with sampler.watched():
        reading: Reading | None = None
        while True:
            is_first = reading is None
            reading = await sampler.next_after(reading)
            given = {"view": flow_of(sampler.readings), "layouts": layouts()}
            yield {
                **{name: pages.part(f"_{name}.html", request, **given) for name in ("tiles", "picture", "machine")},
                "consumers": pages.part("_consumers.html", request, **given),
                "points": json.dumps(sampler.trace if is_first else sampler.trace[-1:]),
            }
