"""The picture of the services: the saga's four, and any number of others below."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from orderflow.console.flow import TALL, WIDE, Box, Layout, extended
from orderflow.core.messages import Catalogue
from orderflow.core.service import Service, Subscription

MANY = tuple(f"topic-{number}" for number in range(9))


def service(name: str, *topics: str) -> Service:
    subscriptions = tuple(Subscription(f"{name}.{topic}", (topic,)) for topic in topics)
    return Service(name=name, catalogue=Catalogue(()), subscriptions=subscriptions, publishes=(), handlers={})


@pytest.mark.parametrize("layout", [WIDE, TALL], ids=lambda each: each.name)
def test_the_four_alone_are_drawn_as_ever(layout: Layout) -> None:
    drawn = extended(layout, [])
    assert (drawn.height, list(drawn.boxes), list(drawn.pipes)) == (layout.height, [*layout.boxes], [*layout.pipes])


@pytest.mark.parametrize("layout", [WIDE, TALL], ids=lambda each: each.name)
def test_others_stand_below_each_under_what_it_reads(layout: Layout) -> None:
    reads = {"shipping": ("inventory-status",), "quiet": (), "busy": MANY, **{f"more{n}": MANY[:n] for n in range(4)}}
    drawn = extended(layout, [service(name, *topics) for name, topics in reads.items()])
    assert [box.name for box in drawn.boxes[4:]] == list(reads)
    places = {box.name: box for box in drawn.boxes}
    for box in drawn.boxes:
        assert 0 <= box.x <= layout.width - layout.box_width
        assert box.y + layout.box_height <= drawn.height
    for one, other in combinations(drawn.boxes, 2):
        assert abs(one.x - other.x) >= layout.box_width or abs(one.y - other.y) >= layout.box_height
    for reader, topics in reads.items():
        pipes = [pipe for pipe in drawn.pipes if pipe.reader == reader]
        assert [pipe.topic for pipe in pipes] == list(topics)
        starts = [start_of(pipe.path) for pipe in pipes]
        assert len({x for x, _ in starts}) == len(starts)
        for x, y in starts:
            assert places[reader].x < x < places[reader].x + layout.box_width
            assert bottom_above(drawn, places[reader]) < y < places[reader].y


def start_of(path: str) -> tuple[int, int]:
    found = re.match(r"M(\d+) (\d+) V", path)
    assert found is not None, path
    return int(found[1]), int(found[2])


def bottom_above(layout: Layout, box: Box) -> int:
    """Where the row above ends."""
    return max(each.y + layout.box_height for each in layout.boxes if each.y < box.y)
