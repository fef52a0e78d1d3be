"""Crash points: off they do nothing; armed, a process dies at the N-th time, at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import orderflow
from orderflow.core import crash_points
from orderflow.core.crash_points import EXIT_CODE, Point, arm, parse, reached
from orderflow.registry import SAGA

SOURCE = Path(orderflow.__file__).parent


@pytest.fixture
def died() -> Iterator[list[Point]]:
    """Where this process would have died."""
    died: list[Point] = []
    yield died
    arm({})


def test_nothing_happens_in_a_process_that_is_not_armed() -> None:
    for point in Point:
        reached(point)


def test_it_dies_when_the_point_is_reached_for_the_nth_time_and_at_no_other(died: list[Point]) -> None:
    arm({Point.TX_COMMITTED: 2}, died.append)
    reached(Point.TX_COMMITTED)
    reached(Point.RELAY_READ)
    assert died == []
    reached(Point.TX_COMMITTED)
    assert died == [Point.TX_COMMITTED]


def test_a_process_is_disarmed_again(died: list[Point]) -> None:
    arm({Point.TX_COMMITTED: 1}, died.append)
    arm({})
    reached(Point.TX_COMMITTED)
    assert died == []


def test_points_are_named_for_all_services_or_for_one_and_counted() -> None:
    asked = parse("relay.read, payment:intent.booked@3,payment:tx.opened", SAGA)
    assert asked == {"": {Point.RELAY_READ: 1}, "payment": {Point.INTENT_BOOKED: 3, Point.TX_OPENED: 1}}
    assert parse("never", SAGA) == {}


@pytest.mark.parametrize(
    "text", ["", "nowhere.atall", "relay.read@0", "shop:relay.read", "relay.read,", "relay.read@x"]
)
def test_what_names_no_point_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse(text, SAGA)


def test_death_is_at_once_nothing_is_cleaned_up_or_flushed(tmp_path: Path) -> None:
    program = (
        "import atexit, sys\n"
        "file = open(sys.argv[1], 'w')\n"
        "from orderflow.core.crash_points import Point, arm, reached\n"
        "atexit.register(print, 'at exit')\n"
        "arm({Point.TX_OPENED: 1})\n"
        "file.write('not flushed')\n"
        "try:\n"
        "    reached(Point.TX_OPENED)\n"
        "finally:\n"
        "    print('cleaned up')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "file")], capture_output=True, text=True, timeout=60
    )
    said = "dies on purpose at the crash point tx.opened\n"
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_CODE, "", said)
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("point", Point)
def test_every_point_stands_at_one_kind_of_place_in_the_code(point: Point) -> None:
    """In both transports where a thing is theirs to do, else once."""
    name = f"reached(Point.{point.name}"
    texts = [path.read_text("utf-8") for path in SOURCE.rglob("*.py") if path.name != "crash_points.py"]
    found = sum(text.count(name) for text in texts)
    if point in (Point.EVENT_DEAD, Point.EVENT_PARKED):
        found = sum(text.count(f"Point.{point.name}") for text in texts)
    if point is Point.TX_SENT:
        found = sum(text.count(f"reached_when_sent(Point.{point.name}") for text in texts)
    in_both = {Point.OFFSETS_WRITING, Point.OFFSETS_WRITTEN, Point.PARTITIONS_REVOKED}
    assert found == (2 if point in in_both else 1)


def test_every_point_says_in_a_sentence_what_is_cut() -> None:
    assert len({point.cut for point in Point}) == len(Point)
    assert all(point.cut.endswith(".") and point.cut[0].isupper() for point in Point)
    assert crash_points.NEVER not in set(Point)
