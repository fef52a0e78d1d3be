"""Replays of dead events, for both stores: sent once, followed to their outcome, by one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from orderflow.core.inbox import EditedEvent, InboxEntry, InboxState
from orderflow.core.operations.model import Moment, Replay, ReplayPlan, ReplayProgress, ReplayState
from orderflow.core.operations.port import OperatedStore
from orderflow.core.store import Act
from tests.conformance.store_backends import Backend
from tests.conformance.store_values import (
    CONSUMER,
    changes,
    dead,
    end,
    event_id,
    fail,
    park,
    parked,
    queue,
    sequence,
    waiting,
)
from tests.support.callers import person
from tests.support.waiting import eventually

LONG_MS = 3_600_000
ADA = Act(caller=person("ada"), reason="mended", confirmed=True)
PLAN = ReplayPlan(rate_per_s=2.5, canary=True, failing_share_max=0.25, lag_growth_max=None)


async def bury(store: OperatedStore, *keys: str) -> list[int]:
    """A dead event for each key; returns their positions."""
    await park(store, *[dead(key, "1") for key in keys])
    return [(await sequence(store, key))[0].position for key in keys]


async def begin(store: OperatedStore, positions: Sequence[int], *, claim: bool = True) -> int:
    """A new replay, claimed by this process; returns its number."""
    number = (await store.recovery.begin_replay(positions, ReplayPlan(), ADA, 0, "all")).number
    if claim:
        claimed = await store.recovery.claim_replay(LONG_MS)
        assert claimed is not None
    return number


async def send(store: OperatedStore, number: int, limit: int = 100) -> list[str]:
    """The keys that were sent."""
    return [key for _, key in await store.recovery.send(number, limit)]


async def get(store: OperatedStore, number: int) -> Replay:
    replay = await store.recovery.replay(number)
    assert replay is not None
    return replay


async def progress(store: OperatedStore, number: int) -> ReplayProgress:
    return (await get(store, number)).progress


async def test_a_replay_begins_with_what_is_dead(store: OperatedStore) -> None:
    positions = await bury(store, "a", "b")
    await park(store, parked("c", "1"))
    (other,) = await sequence(store, "c")
    begun = await store.recovery.begin_replay([*positions, other.position, 987], PLAN, ADA, 17, "all")
    assert (begun.plan, begun.who, begun.reason) == (PLAN, "ada", "mended")
    assert (begun.state, begun.why, begun.step, begun.lag_before) == (ReplayState.RUNNING, "", 0, 17)
    assert begun.progress == ReplayProgress(waiting=2)
    assert await store.recovery.replay(begun.number) == begun
    assert await store.recovery.replay(begun.number + 1) is None
    assert [event.state for event in await sequence(store, "a")] == [InboxState.DEAD]


async def test_the_latest_replays_come_first(store: OperatedStore) -> None:
    positions = await bury(store, "a", "b", "c")
    numbers = [await begin(store, [position], claim=False) for position in positions]
    first = await store.recovery.replays(2)
    assert [replay.number for replay in first] == [numbers[2], numbers[1]]
    assert [replay.progress.waiting for replay in await store.recovery.replays(10)] == [1, 1, 1]
    assert await get(store, numbers[2]) == first[0]


async def test_what_is_sent_is_due_at_once_with_its_attempts_kept(store: OperatedStore) -> None:
    (position,) = await bury(store, "k")
    await park(store, parked("k", "2", attempts=0))
    before = await sequence(store, "k")
    number = await begin(store, [position])
    assert await store.due_keys(CONSUMER, 10) == []
    assert await store.recovery.send(number, 10) == [(CONSUMER, "k")]
    assert await store.due_keys(CONSUMER, 10) == ["k"]
    assert await queue(store, "k") == ["1", "2"]
    assert await sequence(store, "k") == [replace(before[0], state=InboxState.PARKED, replays=1), before[1]]
    assert await progress(store, number) == ReplayProgress(under_way=1)
    last = (await store.recovery.history(position))[-1]
    assert (last.moment, last.who, last.attempt) == (Moment.REPLAYED, "ada", 6)
    letter = await store.recovery.letter(position)
    assert letter is not None
    assert letter.letter.replays == letter.event.replays == 1


async def test_events_are_sent_in_order_of_position_a_step_at_a_time(store: OperatedStore) -> None:
    positions = await bury(store, "c", "a", "b")
    number = await begin(store, list(reversed(positions)))
    assert await send(store, number, 2) == ["c", "a"]
    assert await progress(store, number) == ReplayProgress(waiting=1, under_way=2)
    assert await send(store, number, 2) == ["b"]
    assert await send(store, number, 2) == []
    assert await progress(store, number) == ReplayProgress(under_way=3)
    assert [event.replays for key in "abc" for event in await sequence(store, key)] == [1, 1, 1]


async def test_two_dead_events_of_a_key_are_told_as_one(store: OperatedStore) -> None:
    await park(store, dead("k", "1"), dead("k", "2"))
    number = await begin(store, [event.position for event in await sequence(store, "k")])
    assert await send(store, number) == ["k"]
    assert await progress(store, number) == ReplayProgress(under_way=2)


async def test_each_event_is_followed_to_its_outcome(store: OperatedStore) -> None:
    positions = await bury(store, "done", "dead", "discarded", "waiting", "gone")
    number = await begin(store, positions)
    assert len(await send(store, number, 3)) == 3
    await end(store, "gone", InboxState.DISCARDED)
    await end(store, "done")
    assert await progress(store, number) == ReplayProgress(waiting=2, under_way=2, succeeded=1)
    await fail(store, "dead", state=InboxState.PARKED)
    await end(store, "discarded", InboxState.DISCARDED)
    assert await progress(store, number) == ReplayProgress(waiting=2, under_way=1, succeeded=1, discarded=1)
    await fail(store, "dead")
    ended = ReplayProgress(waiting=2, succeeded=1, discarded=1, failed_again=1)
    assert await progress(store, number) == ended
    assert [replay.progress for replay in await store.recovery.replays(10)] == [ended]
    assert await send(store, number) == ["waiting"]
    assert await progress(store, number) == ReplayProgress(
        under_way=1, succeeded=1, discarded=1, failed_again=1, gone=1
    )


@pytest.mark.parametrize("state", [InboxState.DONE, InboxState.DISCARDED])
async def test_an_event_is_under_way_until_what_it_held_was_tried(store: OperatedStore, state: InboxState) -> None:
    positions = await bury(store, "k")
    await park(store, parked("k", "2", attempts=0), parked("k", "3", attempts=0))
    number = await begin(store, positions)
    await send(store, number)
    await end(store, "k", state)
    assert await progress(store, number) == ReplayProgress(under_way=1)
    await end(store, "k")
    assert await progress(store, number) == ReplayProgress(under_way=1)
    await fail(store, "k", state=InboxState.PARKED)
    over = await progress(store, number)
    assert (over.under_way, over.succeeded + over.discarded) == (0, 1)


async def test_a_step_is_filled_with_what_is_still_dead(store: OperatedStore, backend: Backend) -> None:
    positions = await bury(store, "a", "b", "c", "d")
    number = await begin(store, positions)
    other = await backend.open()
    assert await send(other, await begin(other, positions[:1])) == ["a"]
    await end(store, "b")
    assert await send(store, number, 1) == ["c"]
    assert await progress(store, number) == ReplayProgress(waiting=1, under_way=1, gone=2)


async def test_an_outcome_that_is_known_stays(store: OperatedStore) -> None:
    (position,) = await bury(store, "k")
    first = await begin(store, [position])
    await send(store, first)
    await fail(store, "k")
    assert await progress(store, first) == ReplayProgress(failed_again=1)
    await end(store, "k")
    assert await progress(store, first) == ReplayProgress(failed_again=1)


async def test_an_event_that_another_replay_sends_again_has_failed_here_though_nobody_had_looked(
    store: OperatedStore,
) -> None:
    (position,) = await bury(store, "k")
    first = await begin(store, [position])
    await send(store, first)
    await fail(store, "k")
    assert await store.recovery.finish_step(first, 1, ReplayState.DONE)
    second = await begin(store, [position])
    assert await send(store, second) == ["k"]
    await end(store, "k")
    assert await progress(store, first) == ReplayProgress(failed_again=1)
    assert await progress(store, second) == ReplayProgress(succeeded=1)


async def test_what_another_replay_has_under_way_is_gone(store: OperatedStore, backend: Backend) -> None:
    (position,) = await bury(store, "k")
    other = await backend.open()
    first, second = await begin(store, [position]), await begin(other, [position])
    assert await send(store, first) == ["k"]
    assert await send(other, second) == []
    assert await progress(other, second) == ReplayProgress(gone=1)
    assert [event.replays for event in await sequence(store, "k")] == [1]


async def test_two_replays_at_once_send_each_event_once(store: OperatedStore, backend: Backend) -> None:
    keys = [f"key-{number:02}" for number in range(40)]
    positions = await bury(store, *keys)
    other = await backend.open()
    replays = [(store, await begin(store, positions)), (other, await begin(other, positions))]
    sent = await asyncio.gather(*[send(each, number, 3) for _ in range(20) for each, number in replays])
    assert sorted(key for keys_sent in sent for key in keys_sent) == keys
    events = [event for key in keys for event in await sequence(store, key)]
    assert [(event.state, event.replays) for event in events] == [(InboxState.PARKED, 1)] * len(keys)
    counted = [await progress(store, number) for _, number in replays]
    assert sum(each.under_way for each in counted) == len(keys)
    assert all(each.under_way + each.gone + each.waiting == len(keys) for each in counted)


async def test_an_event_edited_after_the_replay_began_is_followed_under_its_new_identity(
    store: OperatedStore,
) -> None:
    (position,) = await bury(store, "k")
    number = await begin(store, [position])
    async with store.transaction() as tx:
        (head,) = await waiting(tx, "k")
        edited = EditedEvent(
            position=position,
            event_id=event_id("edited"),
            identity="edited",
            event_type=head.event_type,
            record=head.record,
            who="ada",
        )
        entries = [
            InboxEntry("k", "1", head.event_id, InboxState.DISCARDED),
            InboxEntry("k", "edited", edited.event_id, InboxState.DEAD),
        ]
        await tx.commit(changes(inbox=entries, edited=[edited]))
    assert await send(store, number) == ["k"]
    await end(store, "k")
    assert await progress(store, number) == ReplayProgress(succeeded=1)


async def test_one_process_at_a_time_works_on_a_replay(store: OperatedStore, backend: Backend) -> None:
    number = await begin(store, await bury(store, "k"), claim=False)
    other = await backend.open()
    claimed = await store.recovery.claim_replay(LONG_MS)
    assert claimed == await get(store, number)
    assert await other.recovery.claim_replay(LONG_MS) is None
    assert await store.recovery.claim_replay(LONG_MS) == claimed
    assert await send(other, number) == []
    assert not await other.recovery.finish_step(number, 5, ReplayState.DONE)
    assert await get(store, number) == claimed


async def test_a_replay_goes_on_elsewhere_when_its_process_has_died(store: OperatedStore, backend: Backend) -> None:
    number = await begin(store, await bury(store, "a", "b"))
    assert await send(store, number, 1) == ["a"]
    assert await store.recovery.claim_replay(50) is not None
    other = await backend.open()

    async def taken_over() -> bool:
        return await other.recovery.claim_replay(LONG_MS) is not None

    await eventually(taken_over)
    assert await send(store, number) == []
    assert not await store.recovery.finish_step(number, 1, ReplayState.DONE)
    assert await send(other, number) == ["b"]
    await backend.crash(store)
    assert await progress(other, number) == ReplayProgress(under_way=2)


async def test_a_process_gets_its_own_replay_before_a_free_one(store: OperatedStore, backend: Backend) -> None:
    first, second = [await begin(store, [position], claim=False) for position in await bury(store, "a", "b")]
    other = await backend.open()
    claimed = [await each.recovery.claim_replay(LONG_MS) for each in (store, other)]
    assert [each.number for each in claimed if each] == [first, second]
    assert await store.recovery.pause_replay(first, ADA)
    assert await store.recovery.resume_replay(first, ADA)
    again = await other.recovery.claim_replay(LONG_MS)
    assert again is not None
    assert again.number == second


async def test_a_step_is_written_down_and_the_lease_kept_until_the_end(
    store: OperatedStore, backend: Backend
) -> None:
    number = await begin(store, await bury(store, "a", "b"))
    other = await backend.open()
    assert await store.recovery.finish_step(number, 3, ReplayState.RUNNING)
    assert (await get(store, number)).step == 3
    assert await other.recovery.claim_replay(LONG_MS) is None
    assert await store.recovery.finish_step(number, 4, ReplayState.STOPPED, "too many failed again")
    stopped = await get(store, number)
    assert (stopped.step, stopped.state, stopped.why) == (4, ReplayState.STOPPED, "too many failed again")
    assert await send(store, number) == []
    assert not await store.recovery.finish_step(number, 5, ReplayState.RUNNING)
    assert await store.recovery.claim_replay(LONG_MS) is None


async def test_an_operator_pauses_and_resumes_from_any_process(store: OperatedStore, backend: Backend) -> None:
    number = await begin(store, await bury(store, "a", "b"))
    other = await backend.open()
    assert await other.recovery.pause_replay(number, ADA, "lunch")
    assert not await other.recovery.pause_replay(number, ADA, "again")
    paused = await get(store, number)
    assert (paused.state, paused.why) == (ReplayState.PAUSED, "lunch")
    assert await send(store, number) == []
    assert not await store.recovery.finish_step(number, 1, ReplayState.RUNNING)
    assert await store.recovery.claim_replay(LONG_MS) is None
    assert await store.recovery.resume_replay(number, ADA)
    assert not await store.recovery.resume_replay(number, ADA)
    claimed = await other.recovery.claim_replay(LONG_MS)
    assert claimed is not None
    assert (claimed.state, claimed.why) == (ReplayState.RUNNING, "")


@pytest.mark.parametrize(("state", "resumes"), [(ReplayState.STOPPED, True), (ReplayState.DONE, False)])
async def test_what_was_stopped_can_go_on_and_what_is_done_cannot(
    store: OperatedStore, state: ReplayState, resumes: bool
) -> None:
    number = await begin(store, await bury(store, "k"))
    assert await store.recovery.finish_step(number, 1, state)
    assert not await store.recovery.pause_replay(number, ADA)
    assert await store.recovery.resume_replay(number, ADA) is resumes
    assert (await store.recovery.claim_replay(LONG_MS) is not None) is resumes


async def test_a_replay_that_does_not_exist_can_be_neither_paused_nor_sent(store: OperatedStore) -> None:
    assert not await store.recovery.pause_replay(987, ADA)
    assert not await store.recovery.resume_replay(987, ADA)
    assert not await store.recovery.finish_step(987, 1, ReplayState.DONE)
    assert await store.recovery.send(987, 1) == []
    assert await store.recovery.claim_replay(LONG_MS) is None
    assert await store.recovery.replays(10) == []
