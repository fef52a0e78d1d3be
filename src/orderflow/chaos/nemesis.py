"""Does what the plan says, notes when each fault began and ended, and heals everything at the end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from orderflow.chaos import plan
from orderflow.chaos.client import Client
from orderflow.chaos.judge import LETTERS, POISON, Observer
from orderflow.chaos.plan import Planned
from orderflow.chaos.proxy import LinkFault
from orderflow.chaos.system import System
from orderflow.core.transport import ProducerRecord, TopicMissingError, TopicSettings, TransportUnavailableError
from orderflow.events.base import TOPICS
from orderflow.local import preparation
from orderflow.local.errors import LocalError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

MORE_PARTITIONS = 2
NOTICED_S = 12.0
AWAY_S = 90.0
QUIET_S = 120.0
LOOK_EVERY_S = 0.1
DEPLOYED_S = 60.0
PATIENCE_S = 60.0
AGAIN_S = 1.0


@dataclass(slots=True)
class InjectedFault:
    """A fault as it came about. Seconds since the beginning of the load; `ended_s` None while it lasts.

    `note` says what the fault did, or why it could not be done (then `done` is False).
    """

    planned: Planned
    began_s: float
    ended_s: float | None = None
    done: bool = True
    note: str = ""


class CannotError(Exception):
    """The fault cannot be done here and now; the text says why."""


@dataclass(slots=True)
class Nemesis:
    """`now` is seconds since the beginning of the load. `notify` hears of each beginning."""

    system: System
    client: Client
    observer: Observer
    seed: int
    now: Callable[[], float]
    notify: Callable[[str], None]
    happened: list[InjectedFault] = field(default_factory=list)
    poisoned: int = 0
    _frozen: list[psutil.Process] = field(default_factory=list)

    async def run(self, faults: Sequence[Planned]) -> None:
        """All of them at their times; one that wants quiet waits until the others have ended."""
        under_way: set[asyncio.Task[None]] = set()
        try:
            for fault in faults:
                await asyncio.sleep(max(0.0, fault.at_s - self.now()))
                if fault.kind in plan.QUIET and under_way:
                    await asyncio.wait(under_way)
                task = asyncio.create_task(self._do(fault))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                if fault.kind in plan.QUIET:
                    await task
            if under_way:
                await asyncio.wait(under_way)
        finally:
            for task in under_way:
                task.cancel()

    def heal(self) -> None:
        """Whatever still goes on ends now."""
        for process in self._frozen:
            with contextlib.suppress(psutil.Error):
                process.resume()
        for link in self.system.links.values():
            link.heal()
        for clock in self.system.clocks.values():
            clock.set(0)
        if self.system.disk is not None:
            self.system.disk.free()
        self.client.resume()

    async def _do(self, fault: Planned) -> None:
        entry = InjectedFault(fault, self.now())
        self.happened.append(entry)
        self.notify(f"{fault.words}")
        acts: Mapping[str, Callable[[Planned, InjectedFault], Awaitable[None]]] = {
            plan.KILL: self._kill,
            plan.FREEZE: self._freeze,
            plan.NETWORK: self._network,
            plan.DISK: self._disk,
            plan.DUPLICATES: self._duplicates,
            plan.POISON: self._poison,
            plan.CLOCK: self._clock,
            plan.DEPLOY: self._deploy,
            plan.PARTITIONS: self._partitions,
            plan.TOPICS: self._topics,
        }
        try:
            await acts[fault.kind](fault, entry)
        except CannotError as error:
            entry.done, entry.note = False, str(error)
            self.notify(f"left out, {fault.kind} {fault.target}: {error}")
        finally:
            entry.ended_s = self.now()

    async def _kill(self, fault: Planned, entry: InjectedFault) -> None:
        rng = random.Random(f"kill {self.seed} {fault.number}")  # noqa: S311
        if fault.target == plan.EVERYTHING:
            targets = ["up", *plan.SERVICES, *self.system.units()]
            victims = [each for name in targets for each in self.system.processes(name)]
        elif fault.target == plan.BACKEND:
            victims = _one(rng, _children(await self._running(plan.POSTGRES)))
        else:
            victims = _one(rng, await self._running(fault.target))
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        entry.note = f"{len(victims)} killed"
        if not await self.system.until_whole(AWAY_S, {victim.pid for victim in victims}):
            entry.note += f", and not all were back after {AWAY_S:.0f} s"

    async def _freeze(self, fault: Planned, entry: InjectedFault) -> None:
        victims = await self._running(fault.target)
        if fault.target in {plan.POSTGRES, plan.BACKEND}:
            victims = [*victims, *_children(victims)]
        if fault.target in {plan.BACKEND, *plan.SERVICES}:
            rng = random.Random(f"freeze {self.seed} {fault.number}")  # noqa: S311
            victims = _one(rng, victims[1:] if fault.target == plan.BACKEND else victims)
        self._frozen.extend(victims)
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.suspend()
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            for victim in victims:
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.resume()
        entry.note = f"{len(victims)} frozen"

    async def _network(self, fault: Planned, entry: InjectedFault) -> None:
        links = self.system.links_of(fault.target)
        for link in links:
            link.begin(LinkFault(fault.how, fault.amount))
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            for link in links:
                link.heal()

    async def _disk(self, fault: Planned, entry: InjectedFault) -> None:
        disk = self.system.disk
        if disk is None:
            raise CannotError(self.system.without["disk"])
        disk.fill()
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            disk.free()
        await self.system.until_whole(AWAY_S)

    async def _clock(self, fault: Planned, entry: InjectedFault) -> None:
        clock = self.system.clocks.get(fault.target)
        if clock is None:
            raise CannotError(self.system.without["clock"])
        clock.set(fault.amount)
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            clock.set(0)

    async def _duplicates(self, fault: Planned, entry: InjectedFault) -> None:
        """The last records of each partition once more, in their order."""
        count = 0
        async with asyncio.timeout(PATIENCE_S), self.system.transport() as transport:
            with self._away():
                ends = await transport.ends([fault.target])
                each = max(1, fault.amount // len(ends))
                for (topic, partition), (first, end) in sorted(ends.items()):
                    page = await transport.read(topic, partition, max(first, end - each), each)
                    again = [ProducerRecord(topic, record.key, record.value, record.headers) for record in page]
                    await transport.append(again)
                    count += len(again)
        entry.note = f"{count} records"

    async def _poison(self, fault: Planned, entry: InjectedFault) -> None:
        async with asyncio.timeout(PATIENCE_S), self.system.transport() as transport:
            with self._away():
                for number in range(fault.amount):
                    key = POISON + b"-%d-%d" % (fault.number, number)
                    await transport.append([ProducerRecord(fault.target, key, b"not an event", ())])
                    self.poisoned += 1
        entry.note = f"{fault.amount} records"

    async def _deploy(self, fault: Planned, entry: InjectedFault) -> None:
        deployed = 0
        if not await self.system.until_whole(AWAY_S):
            raise CannotError("not everything ran, so nothing could be deployed")
        for name in [each.name for each in self.system.services()]:
            found = {each.name: each for each in self.system.services()}
            if name not in found:
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(found[name].pid).send_signal(signal.SIGTERM)
            deadline = self.now() + DEPLOYED_S
            while self.now() < deadline:
                fresh = {each.name: each.pid for each in self.system.services()}
                if fresh.get(name, found[name].pid) != found[name].pid:
                    deployed += 1
                    break
                await asyncio.sleep(LOOK_EVERY_S)
        entry.note = f"{deployed} processes are new"

    async def _partitions(self, fault: Planned, entry: InjectedFault) -> None:
        from confluent_kafka.cimpl import NewPartitions

        async with self._quiet():
            admin = self._admin()
            topics = await asyncio.to_thread(admin.list_topics, timeout=10)
            wanted = [
                NewPartitions(name, len(topics.topics[name].partitions) + MORE_PARTITIONS)
                for name in (*TOPICS, *LETTERS)
            ]
            for future in admin.create_partitions(wanted).values():
                await asyncio.wrap_future(future)
            await asyncio.sleep(NOTICED_S)
        entry.note = f"{len(wanted)} topics have two partitions more"

    async def _topics(self, fault: Planned, entry: InjectedFault) -> None:
        """As the runbook has it: the topic is gone and comes back empty, its writers publish again."""
        async with self._quiet(), self.system.transport() as transport:
            with self._away():
                async with self.observer.new_life(fault.target, transport):
                    since = self.now()
                    await self._recreate(fault.target)
        again = await self.system.command(
            *("outbox", "republish", "--topic", fault.target, "--from", "5m", "--yes"),
            *("--reason", "chaos: the topic was deleted", "--json"),
        )
        entry.note = f"made again after {self.now() - since:.0f} s, republish ended with {again.returncode}"

    async def _recreate(self, topic: str) -> None:
        admin = self._admin()
        found = await asyncio.to_thread(admin.list_topics, timeout=10)
        partitions = len(found.topics[topic].partitions)
        for future in admin.delete_topics([topic]).values():
            await asyncio.wrap_future(future)
        while topic in found.topics:
            await asyncio.sleep(LOOK_EVERY_S)
            found = await asyncio.to_thread(admin.list_topics, timeout=10)
        async with self.system.transport() as transport:
            await transport.create_topics([TopicSettings(topic, partitions)])

    def _admin(self) -> AdminClient:
        from confluent_kafka.admin import AdminClient

        # Without a level it writes on standard error what becomes of its connections.
        return AdminClient({"bootstrap.servers": self.system.settings().kafka_bootstrap, "log_level": 0})

    @contextlib.asynccontextmanager
    async def _quiet(self) -> AsyncIterator[None]:
        """No new orders, and nothing under way."""
        self.client.pause()
        try:
            await self._until_read()
            yield
        finally:
            self.client.resume()

    async def _until_read(self) -> None:
        deadline = self.now() + QUIET_S
        left = ["what cannot be asked"]
        while self.now() < deadline:
            with contextlib.suppress(LocalError, TransportUnavailableError):
                left = await preparation.under_way(self.system.settings())
                if not left:
                    return
            await asyncio.sleep(AGAIN_S)
        raise CannotError(f"after {QUIET_S:.0f} s these were still under way: {', '.join(left)}")

    async def _running(self, target: str) -> list[psutil.Process]:
        """Wait until it runs."""
        deadline = self.now() + AWAY_S
        while not (found := self.system.processes(target)):
            if self.now() > deadline:
                raise CannotError(f"{target} did not run for {AWAY_S:.0f} s")
            await asyncio.sleep(LOOK_EVERY_S)
        return found

    @contextlib.contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
        except (TransportUnavailableError, TopicMissingError, TimeoutError) as error:
            raise CannotError(f"the log does not answer: {error}") from error


def _one(rng: random.Random, processes: list[psutil.Process]) -> list[psutil.Process]:
    return [rng.choice(processes)] if processes else []


def _children(processes: list[psutil.Process]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.extend(process.children(recursive=True))
    return found
