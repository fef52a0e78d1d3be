"""A rate is kept within 5 %, and never passed in a burst."""

from __future__ import annotations

import random

import pytest

from orderflow.core.operations.replay import BURST_S, Pace


def sends(rate: float, seconds: float, rng: random.Random, at_most: int = 1_000_000) -> list[tuple[float, int]]:
    """What goes out when somebody looks every now and then, late at times."""
    pace, now, sent = Pace(rate), 100.0, list[tuple[float, int]]()
    while now < 100.0 + seconds:
        room = pace.room(now)
        assert room is not None
        count = min(room, at_most)
        if count:
            pace.sent(count, now)
            sent.append((now, count))
        now += max(0.01, pace.wait_s(now)) + rng.random() * 0.05
    return sent


@pytest.mark.parametrize("rate", [0.5, 3.0, 50.0, 1_000.0])
def test_the_rate_is_kept_within_five_per_cent(rate: float) -> None:
    seconds = 100 / rate + 20

    total = sum(count for _, count in sends(rate, seconds, random.Random(1)))

    assert total == pytest.approx(rate * seconds, rel=0.05)


@pytest.mark.parametrize("rate", [3.0, 50.0, 1_000.0])
def test_no_stretch_of_time_sees_more(rate: float) -> None:
    sent = sends(rate, 20, random.Random(2))

    for first in range(0, len(sent), 7):
        total = 0
        for moment, count in sent[first:]:
            total += count
            assert total <= rate * (moment - sent[first][0] + BURST_S) + 1


def test_what_was_not_sent_in_time_is_not_made_up_for() -> None:
    pace = Pace(100.0)
    pace.sent(1, 0.0)

    assert pace.room(60.0) == 100 * BURST_S + 1


def test_without_a_rate_there_is_room_for_any_number() -> None:
    pace = Pace(None)
    pace.sent(10**6, 1.0)

    assert (pace.room(1.0), pace.wait_s(1.0)) == (None, 0.0)
