"""Outage and poison through virtual minutes: what they cost the events concerned, and the healthy keys beside."""

from __future__ import annotations

import asyncio

import pytest

from orderflow.messaging.engine_config import EngineConfig
from tests.unit.messaging.day import Day
from tests.unit.messaging.toy import Counted

COUNTED = Counted.TYPE
HELD_MAX_S = 5.0
POISON_WITHIN_S = 60.0
GIVEN_UP_WITHIN_S = POISON_WITHIN_S + 90.0


def poison(day: Day, name: str, count: int) -> None:
    day.world.moods.broken |= {f"{name}{number}" for number in range(count)}


@pytest.mark.parametrize("count", [10, 30, 50])
def test_poison_on_an_idle_system_holds_no_healthy_key_and_ends_dead(count: int) -> None:
    day = Day()
    poison(day, "bad", count)

    async def what() -> None:
        await day.burst("bad", count)
        await asyncio.sleep(3)
        await day.stream("fine", rate=0.5, for_s=24)
        await day.until(lambda: day.are_dead("bad"), GIVEN_UP_WITHIN_S)

    day.live(what)

    assert max(day.delays("fine")) <= HELD_MAX_S


def test_sixty_poison_keys_and_then_twelve_healthy_ones() -> None:
    day = Day()
    poison(day, "bad", 60)

    async def what() -> None:
        await day.burst("bad", 60)
        await asyncio.sleep(1)
        await day.burst("fine", 12)
        await day.until(lambda: day.are_dead("bad"), GIVEN_UP_WITHIN_S)

    day.live(what)

    assert max(day.delays("fine")) <= HELD_MAX_S


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("rate", [0.1, 1, 2, 5, 50])
def test_in_an_outage_of_a_type_nothing_of_it_is_given_up_at_any_rate(rate: float, seed: int) -> None:
    day = Day(seed)
    count = 12 if rate < 1 else 300

    async def what() -> None:
        await day.stream("early", rate=rate, for_s=10 / rate)
        await day.until(lambda: day.are_handled("early"), 5)
        day.world.moods.broken.add(COUNTED)
        await day.stream("k", rate=rate, for_s=max(300.0, count / rate) if rate < 50 else 200)
        assert day.dead == {}
        day.world.moods.broken.clear()
        await day.until(lambda: day.are_handled("k"), 60)

    day.live(what)

    assert day.dead == {}


def test_a_single_poison_event_is_tried_six_times_over_about_a_minute() -> None:
    lasted = []
    for seed in range(20):
        day = Day(seed)
        poison(day, "bad", 1)

        async def what(day: Day = day) -> None:
            await day.burst("bad", 1)
            await day.until(lambda: day.are_dead("bad"), 100)

        day.live(what)
        lasted.append(day.dead["bad0"])

    assert 50 <= sum(lasted) / len(lasted) <= 70
    assert min(lasted) >= 35


def test_the_default_schedule() -> None:
    assert EngineConfig().attempts_max == 6
