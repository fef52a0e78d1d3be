"""A replay goes through the retrier of the consumer that failed, and every event is followed to its outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orderflow.core.engine import Health
from orderflow.core.inbox import InboxState
from orderflow.core.operations import replay as replaying
from orderflow.core.operations.model import (
    ConfirmationNeededError,
    LetterFilter,
    NothingToReplayError,
    Replay,
    ReplayMissingError,
    ReplayPlan,
    ReplayProgress,
    ReplayState,
    ReplayStateError,
)
from orderflow.core.retries import Retrier
from orderflow.core.store import Act
from tests.support.callers import person
from tests.support.waiting import eventually
from tests.unit.core.recovery.bench import AS_FAST_AS_IT_GOES, DEAD, ME, Bench
from tests.unit.core.still_clock import StillClock
from tests.unit.core.toy import Counted

NAMES = tuple(f"k{n:02}" for n in range(30))


async def no_lag() -> int:
    return 0


async def test_whole_sequences_go_in_order_to_the_consumer_that_failed_under_their_own_ids() -> None:
    bench = Bench()
    dead = await bench.bury("a", "b")
    await bench.world.admit(*(Counted(name=name, amount=n) for n in (2, 3) for name in ("b", "a")))
    letters = len(bench.world.outbox("counts.DLT"))

    async with bench.started():
        begun = await bench.recovery.replay(DEAD, AS_FAST_AS_IT_GOES, ME)
        ended = await bench.ended(begun.number)

    assert (begun.state, begun.progress) == (ReplayState.RUNNING, ReplayProgress(waiting=2))
    assert (ended.state, ended.progress) == (ReplayState.DONE, ReplayProgress(succeeded=2))
    assert [each for each in bench.world.moods.handled if each[0] == "a"] == ["a+1", "a+2", "a+3"]
    assert [each for each in bench.world.moods.handled if each[0] == "b"] == ["b+1", "b+2", "b+3"]
    assert bench.world.parked() == []
    assert [bench.state_of(event) for event in dead] == [InboxState.DONE] * 2
    assert len(bench.world.outbox("counts.DLT")) == letters
    assert {row.topic for row in bench.world.outbox()} == {"totals", "flow-status", "counts.DLT"}


async def test_what_fails_again_is_dead_again_with_another_letter() -> None:
    bench = Bench()
    await bench.bury("good")
    await bench.world.admit(Counted(name="bad", amount=-1))

    async with bench.started():
        begun = await bench.recovery.replay(DEAD, AS_FAST_AS_IT_GOES, ME)
        ended = await bench.ended(begun.number)

    assert ended.progress == ReplayProgress(succeeded=1, failed_again=1)
    assert [(event.key, event.state, event.attempts, event.replays) for event in bench.world.parked()] == [
        ("bad", InboxState.DEAD, 2, 1)
    ]
    assert len(bench.world.outbox("counts.DLT")) == 3


async def test_only_what_is_meant_is_replayed() -> None:
    bench = Bench()
    a, _ = await bench.bury("a", "b")

    async with bench.started():
        begun = await bench.recovery.replay(LetterFilter(events=(a.position,)), AS_FAST_AS_IT_GOES, ME)
        await bench.ended(begun.number)

    assert [event.key for event in bench.world.parked()] == ["b"]


async def test_a_canary_stops_after_one_when_it_fails_again() -> None:
    bench = Bench()
    await bench.bury(*NAMES)
    bench.world.moods.broken.update(NAMES)

    async with bench.started():
        begun = await bench.recovery.replay(DEAD, ReplayPlan(canary=True), ME)
        ended = await bench.ended(begun.number)

    assert (ended.state, ended.progress) == (ReplayState.STOPPED, ReplayProgress(waiting=29, failed_again=1))
    assert ended.why == "1 of 1 replayed events failed again (100%); the plan allows 5%."


async def test_a_plain_replay_of_which_a_third_fails_again_stops_before_it_has_sent_many() -> None:
    bench = Bench()
    names = [f"k{n}" for n in range(200)]
    await bench.bury(*names)
    bench.world.moods.broken.update(names[2::3])

    async with bench.started():
        begun = await bench.recovery.replay(DEAD, ReplayPlan(), ME)
        ended = await bench.ended(begun.number)

    assert ended.state is ReplayState.STOPPED
    assert ended.progress.failed_again <= 2
    assert ended.progress.waiting >= 190


async def test_a_canary_that_does_well_gets_everything_through() -> None:
    bench = Bench()
    await bench.bury(*NAMES)

    async with bench.started():
        begun = await bench.recovery.replay(DEAD, ReplayPlan(canary=True), ME)
        ended = await bench.ended(begun.number)

    assert (ended.state, ended.step, ended.progress) == (ReplayState.DONE, 5, ReplayProgress(succeeded=30))


async def test_a_stopped_replay_that_is_resumed_is_judged_anew() -> None:
    bench = Bench()
    await bench.bury(*NAMES)
    bench.world.moods.broken.update(NAMES)

    async with bench.started():
        begun = await bench.recovery.replay(DEAD, ReplayPlan(canary=True), ME)
        await bench.ended(begun.number)
        bench.world.moods.broken.clear()
        await bench.recovery.resume(begun.number, ME)
        ended = await bench.ended(begun.number)

    assert (ended.state, ended.progress) == (ReplayState.DONE, ReplayProgress(succeeded=29, failed_again=1))


async def test_what_failed_while_another_process_had_it_is_not_counted_here() -> None:
    bench, clock = Bench(), StillClock()
    await bench.bury(*NAMES)
    bench.world.moods.broken.update(NAMES)
    world = bench.world
    retrier = Retrier("counter", world.processor, world.store, world.signals, clock)
    runner = replaying.ReplayRunner(world.store.recovery, no_lag, lambda _: retrier.schedule(0), clock)
    begun = await bench.recovery.replay(DEAD, ReplayPlan(canary=True), ME)
    runner.wake()
    await runner.step()
    await retrier.step()
    failed = await bench.recovery.find_replay(begun.number)

    clock.now += 2 * replaying.LEASE_MS / 1000
    await runner.step()
    taken_up_again = await bench.recovery.find_replay(begun.number)

    assert failed.progress == ReplayProgress(waiting=29, failed_again=1)
    assert taken_up_again.state is ReplayState.RUNNING
    assert taken_up_again.progress == ReplayProgress(waiting=28, under_way=1, failed_again=1)


async def test_live_traffic_that_falls_behind_stops_it() -> None:
    bench = Bench()
    await bench.bury(*NAMES)
    behind = 0

    async def lag() -> int:
        return behind

    runner = replaying.ReplayRunner(bench.world.store.recovery, lag, lambda _: None, bench.world.clock)
    recovery = bench.recovery
    begun = await recovery.replay(DEAD, ReplayPlan(lag_growth_max=10), ME)
    behind = 11
    runner.wake()
    await runner.step()

    stopped = await recovery.find_replay(begun.number)
    assert (stopped.state, stopped.progress.waiting) == (ReplayState.STOPPED, 30)
    assert "11 records further behind" in stopped.why


async def test_the_lag_that_was_there_before_is_not_held_against_it() -> None:
    bench = Bench()
    await bench.bury("k")

    async def lag() -> int:
        return 5_000

    runner = replaying.ReplayRunner(bench.world.store.recovery, lag, lambda _: None, bench.world.clock)
    store = bench.world.store.recovery
    begun = await store.begin_replay(
        [event.position for event in bench.world.parked()], ReplayPlan(), ME, 4_500, "all"
    )
    runner.wake()
    await runner.step()

    standing = await store.replay(begun.number)
    assert standing is not None
    assert (standing.state, standing.progress) == (ReplayState.RUNNING, ReplayProgress(under_way=1))


async def test_a_rate_is_kept() -> None:
    bench = Bench()
    await bench.bury(*NAMES)
    rate = 50.0

    async with bench.started():
        started = bench.world.clock.monotonic()
        begun = await bench.recovery.replay(DEAD, ReplayPlan(rate_per_s=rate), ME)
        ended = await bench.ended(begun.number)
        took = bench.world.clock.monotonic() - started

    assert ended.progress == ReplayProgress(succeeded=30)
    assert took >= (len(NAMES) - 1) / rate - replaying.TICK_MS / 1000


def watched_claims(bench: Bench) -> list[Replay | None]:
    """What the process gets each time that it asks for a replay to carry out."""
    store, claims = bench.recovery.store, list[Replay | None]()
    claim = store.claim_replay

    async def watched(lease_ms: int) -> Replay | None:
        claims.append(await claim(lease_ms))
        return claims[-1]

    store.claim_replay = watched  # type: ignore[method-assign]  # only watched: it still claims
    return claims


async def test_a_paused_replay_sends_no_more_and_goes_on_when_it_is_resumed() -> None:
    bench = Bench()
    await bench.bury(*NAMES)

    async with bench.started():
        claims = watched_claims(bench)
        begun = await bench.recovery.replay(DEAD, ReplayPlan(rate_per_s=20), ME)

        async def has_begun() -> bool:
            return (await bench.recovery.find_replay(begun.number)).progress.succeeded > 0

        await eventually(has_begun)
        paused = await bench.recovery.pause(begun.number, Act(caller=person("bob"), reason="lunch"))
        waiting = paused.progress.waiting
        await eventually(lambda: claims[-1] is None)
        still = await bench.recovery.find_replay(begun.number)
        await bench.recovery.resume(begun.number, ME)
        ended = await bench.ended(begun.number)

    assert (paused.state, paused.why) == (ReplayState.PAUSED, "Paused by bob: lunch")
    assert waiting > 0
    assert still.progress.waiting == waiting
    assert ended.progress == ReplayProgress(succeeded=30)


async def test_another_process_goes_on_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "LEASE_MS", 50)
    monkeypatch.setattr("orderflow.core.progress.LOOK_S", 0.02)
    monkeypatch.setattr("orderflow.core.progress.LOOK_AGAIN_S", 0.02)
    bench = Bench()
    await bench.bury(*NAMES)
    other = bench.process()

    async with bench.started():
        begun = await bench.recovery.replay(DEAD, ReplayPlan(rate_per_s=40), ME)

        async def is_in_the_middle() -> bool:
            return (await other.recovery.find_replay(begun.number)).progress.succeeded >= 5

        await eventually(is_in_the_middle)
    left = await other.recovery.find_replay(begun.number)
    other.start()
    ended = await bench.ended(begun.number)
    await other.kill()

    assert left.state is ReplayState.RUNNING
    assert left.progress.waiting > 0
    assert (ended.state, ended.progress) == (ReplayState.DONE, ReplayProgress(succeeded=30))
    assert sorted(bench.world.moods.handled) == sorted(f"{name}+1" for name in NAMES)


@pytest.mark.parametrize("processes", [1, 3])
async def test_two_replays_of_the_same_events_at_once_have_no_double_effect(processes: int) -> None:
    bench = Bench()
    await bench.bury(*NAMES)
    others = [bench.process() for _ in range(processes - 1)]
    engines = [bench.engine, *others]

    async with bench.started():
        for other in others:
            other.start()
        begun = await asyncio.gather(
            *(each.recovery.replay(DEAD, ReplayPlan(canary=n == 1), ME) for n, each in enumerate((engines * 2)[:2]))
        )
        ended = [await bench.ended(replay.number) for replay in begun]
        for other in others:
            await other.kill()

    assert [replay.state for replay in ended] == [ReplayState.DONE] * 2
    assert sum(replay.progress.succeeded for replay in ended) + sum(replay.progress.gone for replay in ended) >= 30
    assert sorted(bench.world.moods.handled) == sorted(f"{name}+1" for name in NAMES)
    assert len(bench.world.outbox("totals")) == 30


async def test_what_is_discarded_before_its_turn_is_gone() -> None:
    bench = Bench()
    a, _ = await bench.bury("a", "b")
    begun = await bench.recovery.replay(DEAD, AS_FAST_AS_IT_GOES, ME)
    await bench.recovery.discard(a.event_id, ME)

    async with bench.started():
        ended = await bench.ended(begun.number)

    assert ended.progress == ReplayProgress(succeeded=1, gone=1)


async def test_what_it_may_be_waiting_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    await bench.bury("k")
    begun = await bench.recovery.replay(DEAD, AS_FAST_AS_IT_GOES, ME)
    store = bench.world.store.recovery
    await store.claim_replay(60_000)
    await store.send(begun.number, 1)
    monkeypatch.setattr(bench.engine, "health", lambda: Health({"commands": "the bank is away"}))

    standing = await bench.recovery.find_replay(begun.number)

    assert standing.progress == ReplayProgress(under_way=1)
    assert standing.why == "Events under way wait for as long as this lasts: commands: the bank is away"


async def test_an_event_of_a_type_in_outage_stays_under_way_until_it_is_over_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orderflow.core.progress.LOOK_S", 0.05)
    monkeypatch.setattr("orderflow.core.progress.LOOK_AGAIN_S", 0.05)
    bench = Bench()
    (dead,) = await bench.bury("dead")
    live = [f"live-{n}" for n in range(12)]
    bench.world.moods.broken.update(live)

    async with bench.started():
        await bench.publish(*(Counted(name=name, amount=1) for name in live))
        await eventually(lambda: bench.engine.health().problems)
        begun = await bench.recovery.replay(DEAD, AS_FAST_AS_IT_GOES, ME)

        async def is_told() -> bool:
            standing = await bench.recovery.find_replay(begun.number)
            return standing.progress.under_way == 1 and "outage of toy.Counted.v1" in standing.why

        await eventually(is_told)
        bench.world.moods.broken.clear()
        ended = await bench.ended(begun.number)

    assert ended.progress == ReplayProgress(succeeded=1)
    assert (await bench.recovery.store.history(dead.event_id))[-1].attempt == 1
    assert bench.world.total("dead") == 1


async def test_every_act_is_a_row_with_its_result() -> None:
    bench = Bench()
    await bench.bury("k")

    async with bench.started():
        begun = await bench.recovery.replay(DEAD, AS_FAST_AS_IT_GOES, ME)
        await bench.ended(begun.number)
        await eventually(lambda: len(bench.world.database.state.actions) == 2)

    last, first = await bench.recovery.store.actions(10)
    assert (first.who, first.action, first.target, first.reason) == ("ada", "replay", "replay 1", "mended in 1.2.4")
    assert first.result == "1 to replay: all that is dead."
    assert (last.who, last.action, last.result) == ("ada", "replay done", "1 succeeded, 0 failed again.")


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"events": (1, 2)}, "1, 2"),
        ({"events": tuple(range(12))}, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"),
        ({"key": "k", "topic": "counts"}, "topic counts, key k"),
    ],
)
async def test_the_log_tells_which_events_a_replay_meant(wanted: dict[str, Any], told: str) -> None:
    bench = Bench()
    await bench.bury("k")

    async with bench.started():
        await bench.recovery.replay(LetterFilter(**wanted), AS_FAST_AS_IT_GOES, ME)

    assert (await bench.recovery.store.actions(10))[-1].result == f"1 to replay: {told}."


async def test_what_cannot_be_done_is_refused_with_a_sentence() -> None:
    bench = Bench()
    with pytest.raises(NothingToReplayError, match="nothing to replay"):
        await bench.recovery.replay(DEAD, AS_FAST_AS_IT_GOES, ME)
    await bench.bury("behind")
    held = bench.world.read(Counted(name="behind", amount=1))
    await bench.world.admit(held)
    with pytest.raises(NothingToReplayError):
        await bench.recovery.replay(LetterFilter(state=None, events=(held.event_id,)), AS_FAST_AS_IT_GOES, ME)
    with pytest.raises(ReplayMissingError, match="no replay 7"):
        await bench.recovery.pause(7, ME)
    await bench.bury("k")
    begun = await bench.recovery.replay(DEAD, AS_FAST_AS_IT_GOES, ME)
    with pytest.raises(ReplayStateError, match="neither paused nor stopped"):
        await bench.recovery.resume(begun.number, ME)
    await bench.recovery.pause(begun.number, ME)
    with pytest.raises(ReplayStateError, match="not running"):
        await bench.recovery.pause(begun.number, ME)


async def test_where_acts_must_be_confirmed_they_are_refused_without_a_word_and_a_reason() -> None:
    bench = Bench(confirm="it moves money")
    await bench.bury("k")
    for act in (
        Act(caller=person("ada")),
        Act(caller=person("ada"), confirmed=True),
        Act(caller=person("ada"), reason="because"),
    ):
        with pytest.raises(ConfirmationNeededError, match="it moves money"):
            await bench.recovery.replay(DEAD, AS_FAST_AS_IT_GOES, act)

    begun = await bench.recovery.replay(DEAD, AS_FAST_AS_IT_GOES, ME)
    await bench.recovery.pause(begun.number, Act(caller=person("ada")))
    with pytest.raises(ConfirmationNeededError):
        await bench.recovery.resume(begun.number, Act(caller=person("ada")))
    assert bench.world.database.state.actions[2].action == "pause"
