"""What befalls the world while the shops order."""

from __future__ import annotations

import asyncio

from orderflow.messaging.transport import ProducerRecord
from orderflow.simulation.chance import seeded
from orderflow.simulation.plan import Trouble
from orderflow.simulation.process import Process
from orderflow.simulation.shop import Promised
from orderflow.simulation.world import World

AWAY_MAX_S = 1.5


class Troubles:
    """Brings the troubles of the plan about, each at its moment, and takes back those that last."""

    def __init__(self, world: World, promised: Promised) -> None:
        self._world = world
        self._promised = promised
        self._chance = seeded(world.plan.seed, "troubles")

    async def bring(self) -> None:
        """Return when all of them are over."""
        await asyncio.gather(*(self._at_its_moment(trouble) for trouble in self._world.plan.troubles))

    async def _at_its_moment(self, trouble: Trouble) -> None:
        await asyncio.sleep(self._chance.random() * self._world.plan.troubled_s)
        self._world.note("world", trouble)
        match trouble:
            case Trouble.KILL | Trouble.DRAIN | Trouble.STALL:
                await self._to_a_process(trouble)
            case Trouble.DATABASE_AWAY | Trouble.LOG_AWAY | Trouble.BANK_AWAY:
                await self._take_away(trouble)
            case Trouble.REWIND | Trouble.DUPLICATE | Trouble.POISON:
                self._to_the_log(trouble)
            case Trouble.SLOW_PARTITION:
                await self._deliver_late()
            case Trouble.REFUSE:
                await self._refuse()
            case Trouble.BANK_MUTE:
                self._world.bank.mute = self._chance.choice((0.2, 0.5))

    async def _to_a_process(self, trouble: Trouble) -> None:
        running = list(self._world.processes.values())
        if not running:
            return
        process: Process = self._chance.choice(running)
        match trouble:
            case Trouble.KILL:
                self._world.crash(process)
            case Trouble.DRAIN:
                await self._world.drain(process)
            case _:
                await self._stall(process)

    async def _stall(self, process: Process) -> None:
        """Its sessions run out while it stands still; then it goes on, and finds itself fenced."""
        members = self._world.members()
        process.stall()
        await asyncio.sleep(self._world.plan.session_timeout_s + self._chance.random())
        for member in members:
            member.wake()

    async def _take_away(self, trouble: Trouble) -> None:
        world = self._world
        database = world.databases[self._chance.choice(list(world.databases))]
        match trouble:
            case Trouble.DATABASE_AWAY:
                database.go_down()
            case Trouble.LOG_AWAY:
                world.log.reachable = False
            case _:
                world.bank.away = True
        await self._a_while()
        match trouble:
            case Trouble.DATABASE_AWAY:
                database.come_back()
            case Trouble.LOG_AWAY:
                world.log.reachable = True
                world.deliver(set())
            case _:
                world.bank.away = False

    def _to_the_log(self, trouble: Trouble) -> None:
        if not self._world.log.reachable:
            return
        match trouble:
            case Trouble.REWIND:
                self._rewind()
            case Trouble.DUPLICATE:
                self._append_again()
            case _:
                self._poison()

    def _rewind(self) -> None:
        """A group starts some partitions again from an earlier offset, as after a lost offset commit."""
        group = self._world.log.group(self._chance.choice(self._world.groups()))
        for member in group.members:
            for place in list(member.positions):
                offset = self._chance.randint(0, group.committed.get(place, 0))
                group.committed[place] = member.positions[place] = offset
            member.wake()

    def _append_again(self) -> None:
        """What a producer does that lost its acknowledgements: a run of records, in order, once more."""
        log = self._world.log
        topic = self._chance.choice(log.topics())
        for (_, partition), (_, end) in log.ends([topic]).items():
            start = self._chance.randint(0, end)
            records = log.slice(topic, partition, start, self._chance.randint(0, 5))
            log.append([ProducerRecord(r.topic, r.key, r.value, r.headers) for r in records])

    def _poison(self) -> None:
        """A record that cannot be decoded, of an order's key or of none."""
        keys = [None, *self._promised.accepted]
        key = self._chance.choice(keys)
        topics = [topic for topic in self._world.log.topics() if not topic.endswith(".DLT")]
        topic = self._chance.choice(topics)
        value = self._chance.choice((None, b"", b"{", b"\xff", b'{"order_id": 7}'))
        self._world.log.append([ProducerRecord(topic, key.encode() if key else None, value)])

    async def _deliver_late(self) -> None:
        topic = self._chance.choice(self._world.log.topics())
        places = {(topic, number) for number in range(self._world.plan.partitions)}
        self._world.log.late |= places
        await self._a_while()
        self._world.deliver(places)

    async def _refuse(self) -> None:
        """The databases refuse all rows of the newest order, for a while."""
        if self._promised.accepted:
            order_id = list(self._promised.accepted)[-1]
            self._world.refusing.add(order_id)
            await self._a_while()
            self._world.refusing.discard(order_id)

    async def _a_while(self) -> None:
        await asyncio.sleep(self._chance.random() * AWAY_MAX_S)
