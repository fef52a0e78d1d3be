"""What is told, and how long is waited, when there is no room to park."""

from __future__ import annotations

import pytest

from orderflow.messaging.crowd import Crowd
from orderflow.messaging.retry import Backoff
from orderflow.messaging.signals import Resumed, Signal, Signals, Waiting
from tests.support.chance import Drawn
from tests.unit.messaging.still_clock import StillClock

WORDS = (
    "3 events wait, one of key 'k': as many keys are parked, or events behind one, as the bounds allow; mend, replay "
    "or discard what is parked"
)


def crowd_of(clock: StillClock, seen: list[Signal]) -> Crowd:
    return Crowd("orders", "billing", Backoff(1_000, 4_000), Signals([seen.append]), clock, Drawn(0.0))


def test_while_there_is_room_nobody_waits_and_nothing_is_told() -> None:
    seen = list[Signal]()
    crowd = crowd_of(StillClock(), seen)
    assert (crowd.problem, crowd.wait_s) == ("", 0.0)
    crowd.found_room()
    assert (crowd.problem, crowd.wait_s, seen) == ("", 0.0, [])


def test_without_room_it_is_told_each_time_and_looked_for_later_and_later() -> None:
    clock, seen = StillClock(), list[Signal]()
    crowd = crowd_of(clock, seen)
    waits: list[float] = []
    for _ in range(4):
        crowd.found_no_room(3, "k")
        waits.append(crowd.wait_s)
        clock.now += crowd.wait_s
        assert crowd.wait_s == 0.0
    assert crowd.problem == WORDS
    assert waits == [0.5, 1.0, 2.0, 2.0]
    assert seen == [Waiting("orders", "parking billing", WORDS, wait) for wait in waits]


def test_it_waits_for_what_is_left_and_no_less_than_nothing() -> None:
    clock = StillClock()
    crowd = crowd_of(clock, [])
    crowd.found_no_room(3, "k")
    clock.now += 0.2
    assert crowd.wait_s == pytest.approx(0.3)
    clock.now += 9
    assert crowd.wait_s == 0.0


def test_when_there_is_room_nobody_waits_for_the_next_look() -> None:
    crowd = crowd_of(StillClock(), [])
    crowd.found_no_room(3, "k")
    crowd.found_room()
    assert crowd.wait_s == 0.0


def test_when_there_is_room_it_is_over_and_the_next_time_begins_anew() -> None:
    clock, seen = StillClock(), list[Signal]()
    crowd = crowd_of(clock, seen)
    for pause in (2.0, 3.0):
        for _ in range(2):
            crowd.found_no_room(3, "k")
            clock.now += pause / 2
        crowd.found_room()
        assert (crowd.problem, crowd.wait_s) == ("", 0.0)
        assert seen[-1] == Resumed("orders", "parking billing", pause)
    assert [each.retry_in_s for each in seen if isinstance(each, Waiting)] == [0.5, 1.0] * 2
