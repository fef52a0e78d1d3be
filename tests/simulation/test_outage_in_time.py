"""Outage and poison through virtual minutes: what they cost the events concerned, and the healthy keys beside."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from orderflow.core.telemetry import OutageJudged
from tests.simulation.day import Day
from tests.unit.core.toy import Counted

COUNTED = Counted.TYPE
HELD_MAX_S = 5.0
POISON_WITHIN_S = 60.0
GIVEN_UP_WITHIN_S = POISON_WITHIN_S + 90.0
HEALED_WITHIN_S = 30.0
RATES = (0.1, 1.0, 2.0, 5.0, 50.0)


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
        await day.until(lambda: len({event.key for event in day.world.parked()}) == 60, POISON_WITHIN_S)
        await day.until(lambda: not day.engine.health().problems, 10)
        await day.until(lambda: day.are_dead("bad"), GIVEN_UP_WITHIN_S)

    day.live(what)

    assert max(day.delays("fine")) <= HELD_MAX_S


def test_what_the_database_refuses_holds_up_no_healthy_key_for_long() -> None:
    day = Day()

    async def what() -> None:
        await day.come(*(Counted(name=f"bad{number}", amount=666) for number in range(30)))
        await day.come(*(Counted(name=f"fine{number}", amount=1) for number in range(30)))
        await day.stream("later", rate=5, for_s=20)
        await day.until(lambda: day.are_dead("bad"), GIVEN_UP_WITHIN_S)

    day.live(what)

    assert max(day.delays("fine") + day.delays("later")) <= HELD_MAX_S


@given(rate=st.sampled_from(RATES), seed=st.integers(0, 10**6), regular=st.booleans())
@settings(max_examples=12, deadline=None)
def test_in_an_outage_of_a_type_nothing_of_it_is_given_up_at_any_rate_and_all_of_it_heals(
    rate: float, seed: int, regular: bool
) -> None:
    day = Day(seed)

    async def what() -> None:
        await day.stream("early", rate=rate, for_s=5 / rate)
        await day.until(lambda: day.are_handled("early"), HELD_MAX_S)
        day.world.moods.broken.add(COUNTED)
        await day.stream("k", rate=rate, for_s=120 if rate < 1 else min(120, 300 / rate), regular=regular)
        assert day.dead == {}
        day.world.moods.broken.clear()
        await day.until(lambda: day.are_handled("k"), HEALED_WITHIN_S)

    # Of random arrivals at 0.1/s some are a minute apart: then an event that is alone for so long is given up.
    if rate < 1 and not regular:
        return
    day.live(what)

    assert day.dead == {}


@given(
    rate=st.sampled_from(RATES[1:]),
    share=st.sampled_from((0.02, 0.1, 0.3, 0.6, 0.9)),
    seed=st.integers(0, 10**6),
    refused=st.booleans(),
)
@settings(max_examples=10, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@example(rate=50.0, share=0.6, seed=0, refused=True)
def test_poison_among_healthy_keys_is_dead_in_the_end_and_holds_up_none_of_them(
    rate: float, share: float, seed: int, refused: bool
) -> None:
    day = Day(seed)
    count = round(min(60 * rate, 150))

    async def what() -> None:
        for number in range(count):
            is_bad = day.rng.random() < share
            name = f"bad{number}" if is_bad else f"fine{number}"
            await day.come(Counted(name=name, amount=(666 if refused else -1) if is_bad else 1))
            await asyncio.sleep(day.rng.expovariate(rate))
        await day.stream("last", rate=1, for_s=120)
        await day.until(lambda: day.are_dead("bad"), GIVEN_UP_WITHIN_S)

    day.live(what)

    assert max(day.delays("fine") + day.delays("last")) <= HELD_MAX_S


@pytest.mark.parametrize("rate", [2.0, 5.0])
def test_a_release_that_fails_every_event_of_a_type_gives_none_of_them_up(rate: float) -> None:
    day = Day()

    async def what() -> None:
        day.world.moods.broken.add(COUNTED)
        await day.stream("k", rate=rate, for_s=90, regular=True)
        assert day.world.signals_of(OutageJudged)

    day.live(what)

    assert day.dead == {}
    assert {event.attempts for event in day.world.parked()} <= {1}


def test_an_outage_that_comes_back_while_it_heals_gives_nothing_up() -> None:
    day = Day()

    async def what() -> None:
        for _ in range(4):
            day.world.moods.broken.add(COUNTED)
            await day.stream("k", rate=20, for_s=15)
            day.world.moods.broken.clear()
            await asyncio.sleep(0.3)
        day.world.moods.broken.add(COUNTED)
        await day.stream("late", rate=20, for_s=60)
        day.world.moods.broken.clear()
        await day.until(lambda: day.are_handled(""), HEALED_WITHIN_S)

    day.live(what)

    assert day.dead == {}


@pytest.mark.parametrize("what_is_lost", ["process", "nothing"])
def test_a_restart_in_an_outage_gives_nothing_up(what_is_lost: Literal["process", "nothing"]) -> None:
    day = Day()

    async def what() -> None:
        day.world.moods.broken.add(COUNTED)
        for _ in range(5):
            await day.stream("k", rate=2, for_s=20)
            if what_is_lost == "process":
                await day.engine.kill()
                day.engine = day.process()
                day.engine.start()
        day.world.moods.broken.clear()
        await day.until(lambda: day.are_handled("k"), 2 * HEALED_WITHIN_S)

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
        assert [event.attempts for event in day.world.parked()] == [6]

    assert 50 <= sum(lasted) / len(lasted) <= 70
    assert min(lasted) >= 35
