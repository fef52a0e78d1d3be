"""What is asked of the outside world: after the commit, side by side, under one key, until there is an answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

from orderflow.core.envelopes import Incoming, from_answer, from_command
from orderflow.core.messages import Answer
from orderflow.core.retries import Retrier
from orderflow.core.retry import Backoff, CallBreaker, RetryLoop
from orderflow.core.service import Intent
from orderflow.core.side_effects import GatewayUnavailableError, GroupCommitQueue, SideEffectRunner
from orderflow.core.store import OpenIntent
from orderflow.core.telemetry import IntentAsked, Outcome, TaskFailed
from orderflow.core.timing import Clock, Pacer
from tests.support.waiting import eventually
from tests.unit.core.still_clock import StillClock
from tests.unit.core.toy import Asked, Counted, Said, Withdraw, intent_of
from tests.unit.core.world import TRACE, World, header, outcomes


class ScriptedGateway:
    """Answers each call with the next of its script; the last one goes on for ever."""

    def __init__(self, *script: str | Exception) -> None:
        self._script = list(script)
        self.calls: list[str] = []
        self.under_way = 0
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def say(self, *script: str | Exception) -> None:
        """From now on."""
        self._script = list(script)

    async def ask(self, intent: Intent) -> Answer:
        said = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        self.calls.append(intent.key)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        if isinstance(said, Exception):
            raise said
        return Said(name=intent.request["name"], words=said)


def patience_of(world: World, component: str) -> RetryLoop:
    return RetryLoop("counter", component, Backoff(1, 2), world.signals, world.clock, random.Random(1))


@asynccontextmanager
async def running(
    world: World, gateway: ScriptedGateway, *, concurrency: int = 8, clock: Clock | None = None
) -> AsyncIterator[SideEffectRunner]:
    answers = GroupCommitQueue("counter", world.processor, Pacer(world.clock, 1.0, 100), 100, 1000)
    runner = SideEffectRunner(
        "counter",
        gateway,
        world.store,
        answers,
        patience_of(world, "gateway"),
        world.signals,
        clock or world.clock,
        concurrency=concurrency,
        queue_max=100,
        lease_ms=60_000,
    )
    step = asyncio.ensure_future(patience_of(world, "answers").forever(answers.step))
    try:
        yield runner
    finally:
        await runner.cancel()
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)


def opened(world: World) -> list[OpenIntent]:
    return [intent for changes in world.committed for intent in changes.opened]


async def test_an_intent_is_stored_with_its_key_before_anything_is_asked() -> None:
    world = World()
    cause = world.read(Asked(name="k"), trace=TRACE)

    await world.admit(cause)

    kept = world.intents()["ask:k"]
    assert (kept.intent.kind, kept.intent.request, kept.key) == ("ask", {"name": "k"}, "k")
    assert (kept.cause, kept.traceparent, kept.attempts) == (cause.event_id, TRACE, 0)


async def test_an_answer_comes_in_closes_the_intent_and_is_the_cause_of_what_follows() -> None:
    world = World()
    await world.admit(Asked(name="k"))

    async with running(world, ScriptedGateway("fine")) as runner:
        runner.take(opened(world))
        await runner.finish()

    assert world.moods.handled == ["fine"]
    assert world.intents() == {}
    answer = next(e for e in world.database.state.inbox.values() if e.identity == str(e.event_id) and e.key == "k")
    causes = {header(row.headers, "ce_causationid") for row in world.outbox("totals")}
    assert causes <= {str(e.event_id) for e in world.database.state.inbox.values()}
    assert answer.state.name == "DONE"
    assert [s.outcome for s in world.signals_of(IntentAsked)] == ["toy.Said"]


async def test_an_unknown_answer_postpones_the_intent_and_it_is_asked_again_under_the_same_key() -> None:
    world = World()
    gateway = ScriptedGateway("again", "again", "fine")
    await world.admit(Asked(name="k"))

    async with running(world, gateway) as runner:
        runner.take(opened(world))
        await runner.finish()
        assert world.intents()["ask:k"].attempts == 1
        for _ in range(2):
            runner.postpone(world.committed[-1].postponed)
            await runner.step()
            await runner.finish()

    assert gateway.calls == ["ask:k"] * 3
    assert world.moods.handled == ["again", "again", "fine"]
    assert world.intents() == {}


async def test_the_same_question_answered_twice_is_carried_in_once() -> None:
    world = World()
    await world.admit(Asked(name="k"))
    asked = opened(world)[0]
    answers = [from_answer(Said(name="k", words=words), asked, "/orderflow/counter") for words in ("fine", "again")]

    results = [(await world.processor.admit("counter", [answer]))[0] for answer in answers]

    assert outcomes(results) == [Outcome.HANDLED, Outcome.DUPLICATE]
    assert world.moods.handled == ["fine"]
    assert world.intents() == {}


async def test_an_intent_opened_anew_by_another_event_is_answered_anew() -> None:
    world = World()
    for _ in range(2):
        await world.admit(Asked(name="k"))
        answer = from_answer(Said(name="k", words="fine"), opened(world)[-1], "/orderflow/counter")
        assert outcomes(await world.processor.admit("counter", [answer])) == [Outcome.HANDLED]

    assert world.intents() == {}


async def test_an_answer_whose_decision_raises_is_parked_and_tried_again_without_asking_again() -> None:
    world = World()
    gateway = ScriptedGateway("fine")
    await world.admit(Asked(name="k"))
    world.moods.broken.add("k")

    async with running(world, gateway) as runner:
        runner.take(opened(world))
        await runner.finish()
        assert [(e.attempts, e.intent, e.record.topic) for e in world.parked()] == [(1, "ask:k", "")]
        assert world.intents() == {}
        world.moods.broken.clear()
        await retry(world)

    assert gateway.calls == ["ask:k"]
    assert world.moods.handled == ["fine"]
    assert world.parked() == []
    assert world.flow() == ["Parked k", "Reopened k"]


async def test_a_parked_answer_can_ask_again() -> None:
    world = World()
    await world.admit(Asked(name="k"))
    world.moods.broken.add("k")
    answer = from_answer(Said(name="k", words="again"), opened(world)[0], "/orderflow/counter")
    await world.processor.admit("counter", [answer])
    world.moods.broken.clear()

    await retry(world)

    assert world.intents()["ask:k"].attempts == 1


async def test_an_answer_behind_a_parked_event_waits_for_its_turn() -> None:
    world = World()
    await world.admit(Asked(name="k"))
    world.moods.broken.add("k")
    await world.admit(Counted(name="k", amount=1))
    answer = from_answer(Said(name="k", words="fine"), opened(world)[0], "/orderflow/counter")

    held = await world.processor.admit("counter", [answer])
    world.moods.broken.clear()
    await retry(world)

    assert outcomes(held) == [Outcome.HELD]
    assert world.moods.handled == ["k+1", "fine"]
    assert world.intents() == {}


async def test_an_answer_that_is_given_up_has_no_dead_letter_but_is_said() -> None:
    world = World(attempts_max=1)
    await world.admit(Asked(name="k"))
    answer = from_answer(Said(name="k", words="bad"), opened(world)[0], "/orderflow/counter")

    results = await world.processor.admit("counter", [answer])

    assert outcomes(results) == [Outcome.DEAD]
    assert world.flow() == ["Dead k"]
    assert {row.topic for row in world.outbox()} == {"flow-status"}


async def test_a_gateway_that_is_away_is_waited_for_and_uses_up_no_attempt() -> None:
    world = World()
    away = GatewayUnavailableError("no route")
    gateway = ScriptedGateway(away, away, away, "fine")
    await world.admit(Asked(name="k"))

    async with running(world, gateway) as runner:
        runner.take(opened(world))
        await runner.finish()

    assert len(gateway.calls) == 4
    assert [s.outcome for s in world.signals_of(IntentAsked)] == ["unavailable"] * 3 + ["toy.Said"]
    assert world.moods.handled == ["fine"]


async def test_while_the_gateway_is_away_one_call_probes_and_all_go_on_once_it_is_back() -> None:
    world = World()
    gateway = ScriptedGateway(GatewayUnavailableError("no route"))
    gateway.gate.clear()
    await world.admit(*(Asked(name=f"k{n}") for n in range(20)))

    async with running(world, gateway, concurrency=8) as runner:
        runner.take(opened(world))
        await eventually(lambda: gateway.under_way == 8)
        gateway.gate.set()
        await eventually(lambda: len(gateway.calls) >= 20)
        away = list(gateway.calls)
        assert sorted(away[:8]) == sorted(f"ask:k{n}" for n in range(8))
        assert set(away[8:]) == {away[0]}
        gateway.most = 0
        gateway.say("fine")
        await runner.finish()
        assert gateway.most > 1

    answered = [s for s in world.signals_of(IntentAsked) if s.outcome != "unavailable"]
    assert sorted(s.intent for s in answered) == sorted(f"ask:k{n}" for n in range(20))
    assert {s.attempts for s in world.signals_of(IntentAsked)} == {1}
    assert world.intents() == {}


async def test_a_probe_that_is_given_up_leaves_its_turn_to_another() -> None:
    world = World()
    gateway = ScriptedGateway(GatewayUnavailableError("no route"))
    await world.admit(Asked(name="a"), Asked(name="b"))
    gate = CallBreaker(patience_of(world, "gateway"))
    done: list[str] = []

    async def call(name: str) -> None:
        await gateway.ask(intent_of(name))
        done.append(name)

    first, second = (asyncio.ensure_future(gate.call(partial(call, name))) for name in ("a", "b"))
    await eventually(lambda: len(gateway.calls) > 4)
    first.cancel()
    gateway.say("fine")
    await second

    assert done == ["b"]


async def test_an_intent_that_is_closed_while_it_waits_is_not_asked() -> None:
    world = World()
    gateway = ScriptedGateway(GatewayUnavailableError("no route"))
    await world.admit(Asked(name="a"), Asked(name="b"))

    async with running(world, gateway) as runner:
        runner.take(opened(world))
        await eventually(lambda: len(gateway.calls) > 2)
        await withdraw(world, "b")
        runner.drop(world.committed[-1].closed_intents)
        gateway.say("fine")
        await runner.finish()

    assert gateway.calls.count("ask:b") == 1
    assert world.intents() == {}


async def test_an_intent_that_waits_past_its_lease_is_left_to_whoever_takes_it_next() -> None:
    world = World()
    clock = StillClock()
    gateway = ScriptedGateway(GatewayUnavailableError("no route"))
    await world.admit(Asked(name="a"), Asked(name="b"))

    async with running(world, gateway, clock=clock) as runner:
        runner.take(opened(world))
        await eventually(lambda: len(gateway.calls) > 2)
        clock.now += 40
        make_due(world, "ask:a")
        runner.postpone(opened(world))
        await runner.step()
        clock.now += 40
        gateway.say("fine")
        await runner.finish()

    assert (gateway.calls[-1], gateway.calls.count("ask:b")) == ("ask:a", 1)
    assert world.moods.handled == ["fine"]
    assert set(world.intents()) == {"ask:b"}


async def test_an_intent_is_closed_also_if_it_was_opened_or_postponed_in_the_same_batch() -> None:
    world = World()
    await world.admit(Asked(name="b"))
    again = from_answer(Said(name="b", words="again"), opened(world)[0], "/orderflow/counter")

    await withdraw(world, "b", again)
    await withdraw(world, "a", world.read(Asked(name="a")))

    assert world.intents() == {}


async def test_a_defect_of_the_gateway_is_told_and_the_intent_stays_open() -> None:
    world = World()
    await world.admit(Asked(name="bad"), Asked(name="k"))

    async with running(world, ScriptedGateway(KeyError("defect"), "fine"), concurrency=1) as runner:
        runner.take(opened(world))
        await runner.finish()

    assert list(world.intents()) == ["ask:bad"]
    assert [s.component for s in world.signals_of(TaskFailed)] == ["intent ask:bad"]


async def test_calls_run_side_by_side_with_a_bound_and_none_is_asked_twice() -> None:
    world = World()
    gateway = ScriptedGateway("fine")
    gateway.gate.clear()
    await world.admit(*(Asked(name=f"k{n}") for n in range(20)))

    async with running(world, gateway, concurrency=5) as runner:
        runner.take(opened(world))
        runner.take(opened(world))
        await eventually(lambda: gateway.under_way == 5)
        gateway.gate.set()
        await runner.finish()

    assert gateway.most == 5
    assert sorted(gateway.calls) == sorted(f"ask:k{n}" for n in range(20))
    assert world.intents() == {}


async def test_a_call_that_is_left_before_it_began_is_not_waited_for() -> None:
    world = World()
    gateway = ScriptedGateway("fine")
    await world.admit(Asked(name="k"))

    async with running(world, gateway) as runner, asyncio.timeout(60):
        runner.take(opened(world))
        await runner.cancel()
        await runner.finish()

    assert gateway.calls == []
    assert set(world.intents()) == {"ask:k"}


async def test_the_database_going_away_while_an_answer_comes_in_loses_no_answer() -> None:
    world = World()
    await world.admit(Asked(name="k"))
    world.lose("commit")

    async with running(world, ScriptedGateway("fine")) as runner:
        runner.take(opened(world))
        await runner.finish()

    assert world.moods.handled == ["fine"]
    assert len(world.outbox("totals")) == 1
    assert world.intents() == {}


async def test_intents_of_a_dead_process_are_found_when_their_lease_ends() -> None:
    world = World()
    await world.admit(Asked(name="k"))
    make_due(world, "ask:k")

    async with running(world, ScriptedGateway("fine")) as runner:
        runner.postpone(opened(world))
        await runner.step()
        await runner.finish()

    assert world.moods.handled == ["fine"]


def make_due(world: World, key: str) -> None:
    """Its lease in the database is over."""
    intents = world.database.state.intents
    intents[key] = type(intents[key])(intents[key].intent, 0)


async def withdraw(world: World, name: str, *before: Incoming) -> None:
    """The command, at the end of a batch."""
    command = from_command(Withdraw(name=name), "/orderflow/counter", None, uuid4())
    await world.processor.admit("counter", [*before, command])


async def retry(world: World) -> None:
    retrier = Retrier("counter", world.processor, world.store, world.signals, world.clock)
    retrier.schedule(0)
    await retrier.step()
