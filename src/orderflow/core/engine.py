"""The core of one running service: everything between its database, the log and the outside world.

This is the one place where the parts are assembled; a process and a simulation start the same engine.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from orderflow.core.access import APPROVE, Caller
from orderflow.core.consumer import ConsumerLoop, Dispatcher
from orderflow.core.crash_points import Point, reached
from orderflow.core.decisions import Policy, log_entry
from orderflow.core.envelopes import from_command
from orderflow.core.failures import InfrastructureError
from orderflow.core.identity import uuid7
from orderflow.core.messages import Command
from orderflow.core.operations.overruling import Overruling
from orderflow.core.operations.port import OperatedStore
from orderflow.core.operations.recovery import Recovery
from orderflow.core.operations.repairing import require_second
from orderflow.core.operations.replay import ReplayRunner
from orderflow.core.processor import Processor
from orderflow.core.progress import Part, Parts, ProgressWatch
from orderflow.core.relay import BATCH_MAX, Relay
from orderflow.core.retries import Retrier
from orderflow.core.retry import Backoff, FailureStreak, RetryLoop, RetryPolicy
from orderflow.core.service import RefusedError, Service, Subscription
from orderflow.core.side_effects import Gateway, GroupCommitQueue, QueueFullError, SideEffectRunner
from orderflow.core.store import Act, Changes, StoreUnavailableError
from orderflow.core.telemetry import OutboxPurged, Signals, Usage
from orderflow.core.timing import Clock, Pacer
from orderflow.core.transport import Transport


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The settings of the core; the defaults serve all loads. `release` is the version of the code.

    With `two_person`, an action that takes an approver needs a second one. Anything that is retried or waits for
    longer than `alarm_age_ms` raises an alarm. When `parked_keys_max` keys are parked at a consumer, or
    `parked_depth_max` events of one key, further events wait in their partition.
    """

    batch_max: int = 500
    pace_max_ms: float = 20.0
    command_queue_max: int = 4096
    attempts_max: int = 6
    retry_first_ms: int = 2_500
    retry_ceiling_ms: int = 40_000
    parked_keys_max: int = 10_000
    parked_depth_max: int = 1_000
    infrastructure_first_ms: int = 100
    infrastructure_ceiling_ms: int = 5_000
    ask_again_first_ms: int = 500
    ask_again_ceiling_ms: int = 60_000
    gateway_concurrency: int = 256
    gateway_queue_max: int = 2048
    intent_lease_ms: int = 8_000
    alarm_age_ms: int = 600_000
    outbox_slots: int = 16
    two_person: bool = False
    outbox_keep_ms: int = 24 * 3_600_000
    release: str = ""

    @property
    def away(self) -> Backoff:
        """The back-off while infrastructure is unavailable."""
        return Backoff(self.infrastructure_first_ms, self.infrastructure_ceiling_ms)

    @property
    def longest_wait_ms(self) -> int:
        """The longest delay or lease given to a database, in ms, and a second for statements that have to wait."""
        return max(self.retry_ceiling_ms, self.ask_again_ceiling_ms, self.intent_lease_ms) + 1_000


def policy_of(config: EngineConfig, rng: random.Random) -> Policy:
    """The part of the settings that decisions depend on."""
    return Policy(
        retry=RetryPolicy(Backoff(config.retry_first_ms, config.retry_ceiling_ms), config.attempts_max),
        away=config.away,
        ask_again=Backoff(config.ask_again_first_ms, config.ask_again_ceiling_ms),
        rng=rng,
        slots=config.outbox_slots,
        lease_ms=config.intent_lease_ms,
        release=config.release,
        parked_keys_max=config.parked_keys_max,
        parked_depth_max=config.parked_depth_max,
    )


PURGE_EVERY_S = 60.0
CANCEL_AGAIN_S = 1.0


class OverloadedError(Exception):
    """Too many commands are waiting; try again in `retry_after_s`."""

    def __init__(self, retry_after_s: int = 1) -> None:
        super().__init__("too many commands are waiting")
        self.retry_after_s = retry_after_s


class DecisionFailedError(Exception):
    """The decision of a command raised, or the database refused its changes: a defect. Nothing was stored."""


@dataclass(frozen=True, slots=True)
class Health:
    """What hinders the service (`problems`, by component), and what does not but needs a person (`alarms`)."""

    problems: Mapping[str, str]
    alarms: Mapping[str, str] = field(default_factory=dict)


class Engine:
    """Runs one service in this process. Several processes of one service share its work.

    `held` returns why a consumer is stopped from outside, by its name; "" if it is not. `end` is called to
    end the process, with the reason, when starting a stalled part again has not helped.
    """

    def __init__(
        self,
        service: Service,
        store: OperatedStore,
        transport: Transport,
        *,
        gateway: Gateway | None,
        signals: Signals,
        clock: Clock,
        rng: random.Random,
        config: EngineConfig,
        held: Callable[[str], str] = lambda _: "",
        end: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.service = service
        self._store = store
        self._transport = transport
        self._signals = signals
        self._clock = clock
        self._rng = rng
        self._config = config
        self._steps: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._retry_loops: dict[str, RetryLoop] = {}
        self._commits: Counter[str] = Counter()
        self._draining = False
        self._held = held
        self._processor = Processor(service, store, policy_of(config, rng), signals, clock, self._committed)
        self._commands_retries = self._retry_loop("commands", ceiling_ms=1_000)
        self._commands, self._answers = self._group_commit(), self._group_commit()
        pacer = self._pacer(BATCH_MAX)
        self._relay = Relay(service.name, store.outbox(), transport, pacer, signals, clock)
        self._loops = [self._consumer_loop(each, transport) for each in service.subscriptions]
        consumers = dict.fromkeys((service.name, *(each.consumer for each in service.subscriptions)))
        self._retriers = {each: Retrier(each, self._processor, store, signals, clock) for each in consumers}
        self._runner = self._side_effect_runner(gateway) if gateway else None
        self._replays = ReplayRunner(store.recovery, self._lag, self._retry, clock)
        self.recovery = self._recovery()
        self._progress = self._progress_watch(end)
        self.overruling = Overruling(service, list(self._retriers), self._processor.breakers, store.recovery, clock)

    def start(self) -> None:
        """Start consuming, relaying and retrying. Infrastructure that is away is waited for, and reported by
        signals.
        """
        self._forever(self._commands_retries, self._commands.step)
        self._forever(self._retry_loop("answers"), self._answers.step)
        self._forever(self._retry_loop("relay"), self._relay.step)
        self._forever(self._retry_loop("relay wake-up"), self._relay.listen)
        self._forever(self._retry_loop("purge"), self._purge)
        for consumer, retrier in self._retriers.items():
            retrier.schedule(0)
            self._forever(self._retry_loop(f"retry {consumer}"), retrier.step)
        self._replays.wake()
        self._forever(self._retry_loop("replays"), self._replays.step)
        self._forever(self._retry_loop("outages"), self.overruling.step)
        if self._runner is not None:
            self._runner.wake()
            self._forever(self._retry_loop("intents"), self._runner.step)
        for loop in self._loops:
            self._run(f"consumer {loop.consumer}", loop.run)
        self._forever(self._retry_loop("progress"), self._progress.step)

    async def submit(self, command: Command, by: Caller | Act, *, traceparent: str | None = None) -> object:
        """Process a command; returns the decision's answer after the commit.

        `by` may be an Act: then the operators' log gets an entry, in the same transaction, or afterwards if the
        command is refused. Raises ForbiddenError, RefusedError (nothing stored), OverloadedError,
        DecisionFailedError, StoreUnavailableError.
        """
        act = by if isinstance(by, Act) else None
        command.PERMISSION.require(by.caller if isinstance(by, Act) else by)
        if self._config.two_person and command.PERMISSION == APPROVE:
            require_second(act)
        if self._draining or self._commands_retries.waiting:
            raise StoreUnavailableError(self._commands_retries.problem or "the service is stopping")
        incoming = from_command(command, f"/orderflow/{self.service.name}", traceparent, self._new_id(), act)
        try:
            result = await self._commands.submit(incoming)
        except QueueFullError as error:
            raise OverloadedError from error
        except InfrastructureError as error:
            raise StoreUnavailableError(str(error)) from error
        reached(Point.COMMAND_ANSWERING)
        if result.refusal is None:
            return result.answer
        if isinstance(result.refusal, RefusedError):
            if act is not None:
                await self._store.recovery.log(log_entry(incoming, act, f"refused: {result.refusal}"))
            raise result.refusal
        raise DecisionFailedError(str(result.refusal)) from result.refusal

    async def carry_out(self, command: Command, act: Act) -> object:
        """Carry out an operator's repair, with its entry in the operators' log in the same transaction.

        Raises ForbiddenError, ConfirmationNeededError, RefusedError, KeyBusyError, StoreUnavailableError.
        """
        return await self.recovery.repairs.carry_out(command, act)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing more, finish what is in hand, publish it, leave. After `timeout_s` the rest is left.

        What is left is not lost: it is in the database, and is found at the next start.
        """
        self._draining = True
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._finish()
        finally:
            await self.kill()
        reached(Point.DRAIN_CLOSED)

    async def kill(self) -> None:
        """Stop at once; what is in hand is left as a crash would leave it."""
        self._draining = True
        if self._runner is not None:
            await self._runner.cancel()
        while pending := [task for task in self._tasks.values() if not task.done()]:
            await cancelled(pending)
        for queue in (self._commands, self._answers):
            queue.close()
        await self._relay.close()

    def health(self) -> Health:
        """What the parts are waiting for now, including outages with their evidence."""
        problems = self._known_problems()
        return Health(_with(problems, self._progress.stalls), self._progress.alarms)

    def queues(self) -> Mapping[str, Usage]:
        """How full each bounded buffer of this process is: commands and answers that wait for the next batch,
        questions to the outside world, and `paused CONSUMER`, the paused records of each consumer.
        """
        found = {"commands": self._commands.usage, "answers": self._answers.usage}
        if self._runner is not None:
            found["questions"] = self._runner.usage
        return found | {f"paused {each.consumer}": each.paused for each in self._loops}

    def _known_problems(self) -> dict[str, str]:
        problems = {each.component: each.problem for each in self._retry_loops.values() if each.waiting}
        for consumer in self._retriers:
            outage = self._processor.breakers(consumer).problem
            if outage:
                problems.setdefault(f"consumer {consumer}", outage)
        if self._relay.problem:
            problems["relay slots"] = self._relay.problem
        return problems | {f"parking {each.consumer}": each.problem for each in self._loops if each.problem}

    async def _finish(self) -> None:
        if not self._tasks:
            return
        reached(Point.DRAIN_BEGUN)
        for loop in self._loops:
            await loop.close()
        consuming = [self._tasks[f"consumer {loop.consumer}"] for loop in self._loops]
        await asyncio.gather(*consuming, return_exceptions=True)
        reached(Point.DRAIN_CONSUMED)
        await self._commands.idle()
        if self._runner is not None:
            await self._runner.finish()
        await self._answers.idle()
        reached(Point.DRAIN_ANSWERED)
        await self._relay.flush()
        reached(Point.DRAIN_PUBLISHED)

    def _committed(self, changes: Changes) -> None:
        """Tell the parts what a batch has written for them. The tables remain the source of truth."""
        self._commits[changes.consumer] += 1
        if changes.outbox:
            self._relay.hand_over()
            if not self._relay.slots.issuperset(row.slot for row in changes.outbox):
                self._store.notify_relays()
        if changes.parked or changes.reparked:
            self._retriers[changes.consumer].schedule_parked([*changes.parked, *changes.reparked])
        if self._runner is not None and not self._draining:
            self._runner.drop(changes.closed_intents)
            self._runner.take(changes.opened)
            self._runner.postpone(changes.postponed)

    def _recovery(self) -> Recovery:
        return Recovery(
            self._processor,
            self._store,
            lag=self._lag,
            problems=lambda: self.health().problems,
            on_replay=self._replays.wake,
            on_discard=self._discarded,
            on_repair=self._committed,
            new_id=self._new_id,
            two_person=self._config.two_person,
        )

    def _new_id(self) -> UUID:
        return uuid7(self._clock.wall_ms(), self._rng)

    def _discarded(self, changes: Changes) -> None:
        """An operator has discarded a parked event: the next of its key is due."""
        self._committed(changes)
        self._retry(changes.consumer)

    async def _lag(self) -> int:
        """The total lag of this service's consumers, in records."""
        total = 0
        for each in self.service.subscriptions:
            total += sum(part.lag for part in await self._transport.lag(each.consumer, each.topics))
        return total

    def _retry(self, consumer: str) -> None:
        """Retry what is due at the consumer, now. A consumer of another release has no retrier here."""
        if consumer in self._retriers:
            self._retriers[consumer].schedule(0)

    async def _purge(self) -> None:
        await self._clock.sleep(PURGE_EVERY_S)
        segments = await self._store.purge(self._config.outbox_keep_ms)
        if segments:
            self._signals.emit(OutboxPurged(self.service.name, segments))

    def _forever(self, retries: RetryLoop, step: Callable[[], Awaitable[None]]) -> None:
        self._run(retries.component, lambda: retries.forever(step))

    def _run(self, component: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._steps[component] = work
        self._tasks[component] = asyncio.get_running_loop().create_task(work())

    def _begin_anew(self, component: str) -> None:
        """Cancel the part where it is, as a crash would, and start it again."""
        work = self._steps[component]

        async def again(old: asyncio.Task[None]) -> None:
            await cancelled([old])
            if not self._draining:
                await work()

        if not self._draining:
            self._tasks[component] = asyncio.get_running_loop().create_task(again(self._tasks[component]))

    def _retry_loop(self, component: str, ceiling_ms: int | None = None) -> RetryLoop:
        ceiling_ms = ceiling_ms or self._config.infrastructure_ceiling_ms
        backoff = Backoff(self._config.infrastructure_first_ms, ceiling_ms)
        retries = RetryLoop(self.service.name, component, backoff, self._signals, self._clock, self._rng)
        self._retry_loops[component] = retries
        return retries

    def _pacer(self, full: int, least_ms: float = 0.0) -> Pacer:
        return Pacer(self._clock, self._config.pace_max_ms, full, least_ms=least_ms)

    def _group_commit(self) -> GroupCommitQueue:
        return GroupCommitQueue(
            self.service.name,
            self._processor,
            self._pacer(self._config.batch_max),
            self._config.batch_max,
            self._config.command_queue_max,
        )

    def _consumer_loop(self, subscription: Subscription, transport: Transport) -> ConsumerLoop:
        config, consumer = self._config, subscription.consumer
        streak = f"parking {consumer}"
        full = FailureStreak(self.service.name, streak, config.away, self._signals, self._clock, self._rng)
        return ConsumerLoop(
            subscription,
            Dispatcher(consumer, self._processor, full, config.batch_max),
            transport,
            self._pacer(config.batch_max, subscription.pace_ms),
            self._retry_loop(f"consumer {consumer}"),
            config.batch_max,
            self._before_joining,
            lambda: self._commits[consumer],
        )

    async def _before_joining(self, consumer: str, topics: Sequence[str]) -> None:
        await self._progress.before_joining(consumer, topics)

    def _progress_watch(self, end: Callable[[str], None]) -> ProgressWatch:
        consumers = {
            loop.consumer: (self._consumer_part(loop), each.topics)
            for loop, each in zip(self._loops, self.service.subscriptions, strict=True)
        }
        relay = Part(
            "relay",
            lambda: self._relay.worked,
            lambda _: self._trouble("relay"),
            lambda slot: not self._relay.slots or int(slot) in self._relay.slots,
            wake=self._relay.wake,
        )
        retriers = {name: self._retrier_part(name, each) for name, each in self._retriers.items()}
        runner = self._runner
        intents = self._intents_part(runner) if runner else None
        return ProgressWatch(
            self.service.name,
            Parts(
                consumers=consumers,
                relay=relay,
                unmarked=lambda: self._relay.unmarked,
                held=lambda: self._relay.held,
                retriers=retriers,
                intents=intents,
                replays=self._replays.wake,
            ),
            self._store,
            self._transport,
            self._signals,
            self._clock,
            anew=self._begin_anew,
            end=end,
            problems=self._known_problems,
            alarm_age_ms=self._config.alarm_age_ms,
        )

    def _consumer_part(self, loop: ConsumerLoop) -> Part:
        return Part(
            f"consumer {loop.consumer}",
            lambda: loop.worked,
            lambda place: self._held(loop.consumer) or loop.excuse(place),
            loop.holds,
            lambda: loop.batch_commits,
        )

    def _retrier_part(self, consumer: str, retrier: Retrier) -> Part:
        component = f"retry {consumer}"
        return Part(
            component,
            lambda: retrier.worked,
            lambda place: self._trouble(component) or retrier.excuse(place),
            wake=lambda: retrier.schedule(0),
            wants_looks=lambda: retrier.wants_looks,
        )

    def _intents_part(self, runner: SideEffectRunner) -> Part:
        return Part("intents", lambda: runner.worked, lambda _: self._intents_excuse(runner), wake=runner.wake)

    def _intents_excuse(self, runner: SideEffectRunner) -> str:
        return next((why for why in map(self._trouble, ("gateway", "intents", "answers")) if why), runner.excuse)

    def _trouble(self, component: str) -> str:
        """The last error of the component, until a try succeeds; "" if there is none."""
        retries = self._retry_loops.get(component)
        return retries.problem if retries is not None else ""

    def _side_effect_runner(self, gateway: Gateway) -> SideEffectRunner:
        return SideEffectRunner(
            self.service.name,
            gateway,
            self._store,
            self._answers,
            self._retry_loop("gateway"),
            self._signals,
            self._clock,
            concurrency=self._config.gateway_concurrency,
            queue_max=self._config.gateway_queue_max,
            lease_ms=self._config.intent_lease_ms,
        )


async def cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel all, and return when they have ended. It is repeated: Python 3.11's `wait_for` can lose a
    cancellation.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)


def _with(problems: Mapping[str, str], stalls: Mapping[str, str]) -> Mapping[str, str]:
    """Both, with each problem stated once."""
    both = dict(problems)
    for component, stall in stalls.items():
        known = both.get(component, "")
        both[component] = stall if stall.startswith(known) else f"{known}; {stall}"
    return both
