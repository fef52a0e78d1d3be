"""What befalls the world while the shops order."""

from __future__ import annotations

import asyncio

import msgspec

from orderflow.core.identity import uuid7
from orderflow.core.transport import ProducerRecord
from orderflow.events.payment import RefundFailed
from orderflow.simulation.loop import seeded
from orderflow.simulation.operators import Operators
from orderflow.simulation.plan import Trouble
from orderflow.simulation.process import Process
from orderflow.simulation.shop import Shops
from orderflow.simulation.world import World

AWAY_MAX_S = 1.5
PLACED_S = 0.3
UNDISTURBED = frozenset((Trouble.UNSERVED, Trouble.BANK_MUTE, Trouble.RESTOCK))
"""Beside these nothing keeps a process from seeing that it stands still."""

LOOK_EVERY_S = 0.5
IDLE_MAX_S = 4.0
TOLD_WITHIN_S = 10.0
HELPED_WITHIN_S = 25.0
"""Standing still is to be told within 10 s of its beginning, and helped 15 s after it is noticed."""

POISONED = (None, b"", b"{", b"\xff", b'{"order_id": 7}', b'"\\u0000"', b"[" * 2_000)
UNWRITABLE = ("a key with \x00 in it", "a key with \N{SNOWMAN} in it")
LONG = 60_000
MANY_HEADERS = tuple((f"h{number}", b"") for number in range(LONG // 20))
FIRST_EVENTS = frozenset(("PaymentSucceeded", "PaymentFailed"))
"""Refused are only the rows that these make: what waits behind them would go."""


class Troubles:
    """Brings the troubles of the plan about, each at its moment, and takes back those that last."""

    def __init__(self, world: World, shops: Shops, operators: Operators) -> None:
        self._world = world
        self._shops = shops
        self._operators = operators
        self._promised = shops.promised
        self._rng = seeded(world.plan.seed, "troubles")

    async def bring(self) -> None:
        """Return when all of them are over."""
        await asyncio.gather(*(self._at_its_moment(trouble) for trouble in self._world.plan.troubles))

    async def _at_its_moment(self, trouble: Trouble) -> None:
        await asyncio.sleep(self._rng.random() * self._world.plan.last_moment_s(trouble))
        self._world.note("world", trouble)
        self._world.coverage.trouble(trouble)
        match trouble:
            case Trouble.KILL | Trouble.DRAIN | Trouble.STALL | Trouble.CLOCK | Trouble.RETIRE | Trouble.UNSERVED:
                await self._to_a_process(trouble)
            case Trouble.DATABASE_AWAY | Trouble.LOG_AWAY | Trouble.BANK_AWAY:
                await self._take_away(trouble)
            case Trouble.REWIND | Trouble.DUPLICATE | Trouble.POISON | Trouble.POISONS | Trouble.STRANGERS:
                self._to_the_log(trouble)
            case Trouble.SLOW_PARTITION:
                await self._deliver_late()
            case Trouble.REFUSE:
                await self._refuse()
            case Trouble.REFUSE_ALL | Trouble.REFUSE_MOST:
                await self._refuse_many(trouble)
            case Trouble.RESTOCK:
                await self._shops.restock(self._rng.choice(("plenty", "scarce")), self._rng.randint(0, 9))
            case Trouble.OPERATE:
                await self._operators.act()
            case Trouble.BANK_MUTE:
                self._world.bank.mute = self._rng.choice((0.2, 0.5))

    async def _to_a_process(self, trouble: Trouble) -> None:
        running = list(self._world.processes.values())
        if not running:
            return
        process: Process = self._rng.choice(running)
        self._world.coverage.strikes(process.service, trouble, process.at)
        match trouble:
            case Trouble.KILL:
                self._world.crash(process)
            case Trouble.DRAIN:
                await self._world.drain(process)
            case Trouble.CLOCK:
                process.jump(self._rng.choice((-3_600_000, -700, 700, 3_600_000)))
            case Trouble.RETIRE:
                self._world.retire(process)
            case Trouble.UNSERVED:
                await self._stop_serving(process)
            case _:
                await self._stall(process)

    async def _stall(self, process: Process) -> None:
        """Its sessions run out while it stands still; then it goes on, and finds itself fenced."""
        members = self._world.members()
        process.stall()
        await asyncio.sleep(self._world.plan.session_timeout_s + self._rng.random())
        for member in members:
            member.wake()

    async def _stop_serving(self, process: Process) -> None:
        """A client hangs. Where nothing else happens, health has to say so in time; and its process helps itself."""
        consumers = list(process.consumers().values())
        if not consumers:
            return
        member = self._rng.choice(consumers)
        member.stop_serving(leaves=self._rng.random() < 0.5)
        self._world.unserved.add(member.group)
        plan = self._world.plan
        alone = not plan.faults and UNDISTURBED.issuperset(plan.troubles)
        waited_s = behind_s = 0.0
        while process.alive and process.consumers().get(member.group) is member and waited_s < IDLE_MAX_S + behind_s:
            await asyncio.sleep(LOOK_EVERY_S)
            waited_s += LOOK_EVERY_S
            behind_s = behind_s + LOOK_EVERY_S if self._world.log.reachable and member.unread() else 0.0
            if alone and behind_s > TOLD_WITHIN_S and not self._is_told(process.service, member.group):
                self._world.defects.append(f"{member.group} reads nothing for {behind_s:.0f} s, and nobody says so")
                return
            if alone and behind_s > HELPED_WITHIN_S:
                self._world.defects.append(f"{member.group} reads nothing for {behind_s:.0f} s, and nothing is done")
                return

    def _is_told(self, service: str, group: str) -> bool:
        mine = [each for each in self._world.processes.values() if each.service == service]
        return any(f"consumer {group}:" in problem for each in mine for problem in each.problems())

    async def _take_away(self, trouble: Trouble) -> None:
        world = self._world
        database = world.databases[self._rng.choice(list(world.databases))]
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
            case Trouble.POISONS:
                self._poison(self._rng.randint(9, 12))
            case Trouble.STRANGERS:
                self._bring_strangers(self._rng.randint(9, 14))
            case _:
                self._poison(1)

    def _rewind(self) -> None:
        """A group starts some partitions again from an earlier offset, as after a lost offset commit."""
        group = self._world.log.group(self._rng.choice(self._world.groups()))
        for member in group.members:
            for place in list(member.positions):
                offset = self._rng.randint(0, group.committed.get(place, 0))
                group.committed[place] = member.positions[place] = offset
            member.wake()

    def _append_again(self) -> None:
        """What a producer does that lost its acknowledgements: a run of records, in order, once more."""
        log = self._world.log
        topic = self._rng.choice(log.topics())
        for (_, partition), (_, end) in log.ends([topic]).items():
            start = self._rng.randint(0, end)
            records = log.slice(topic, partition, start, self._rng.randint(0, 5))
            log.slip_in([ProducerRecord(r.topic, r.key, r.value, r.headers) for r in records])

    def _poison(self, count: int) -> None:
        """Records that cannot be decoded, of orders or of none; each could be an event but for one thing."""
        keys = [None, *self._promised.accepted]
        topics = [topic for topic in self._world.log.topics() if not topic.endswith(".DLT")]
        topic = self._rng.choice(topics)
        value = self._rng.choice(POISONED)
        spoiled = self._rng.choice(("", "", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_sequence", "other"))
        much = self._rng.choice((*[()] * 6, MANY_HEADERS, (("other", b"-" * LONG),)))
        for number in range(count):
            key = self._rng.choice(keys)
            if count > 1:
                key = f"nobody-{number}"
            elif self._rng.random() < 0.2:
                key = self._rng.choice(UNWRITABLE)
            self._world.befallen.add((key or "").replace("\x00", "\\x00"))
            headers = tuple({**_headers(key or ""), spoiled: b"\xff\xfe"}.items()) if spoiled else ()
            record = ProducerRecord(topic, key.encode() if key else None, value, (*headers, *much))
            self._world.log.slip_in([record])

    def _bring_strangers(self, count: int) -> None:
        """Whole events, alike, of orders that this installation has never heard of: another one's, or forged."""
        for _ in range(count):
            order_id = uuid7(self._world.clock.wall_ms(), self._rng)
            event = RefundFailed(
                order_id=order_id, customer_id="a stranger", currency="EUR", amount=100, reason="charge_missing"
            )
            key = str(order_id)
            self._world.befallen.add(key)
            names = {"ce_id": str(uuid7(0, self._rng)).encode(), "ce_type": f"{event.TYPE}.v1".encode()}
            headers = tuple({**_headers(key), **names}.items())
            record = ProducerRecord(event.TOPIC, key.encode(), msgspec.json.encode(event), headers)
            self._world.log.slip_in([record])

    async def _deliver_late(self) -> None:
        topic = self._rng.choice(self._world.log.topics())
        places = {(topic, number) for number in range(self._world.plan.partitions)}
        self._world.log.late |= places
        await self._a_while()
        self._world.deliver(places)

    async def _refuse(self) -> None:
        """The databases refuse all rows of the newest order, for a while."""
        if self._promised.accepted:
            order_id = list(self._promised.accepted)[-1]
            what = self._rng.choice((frozenset(), FIRST_EVENTS))
            self._world.refusing[order_id] = what
            self._world.befallen.add(order_id)
            if self._world.plan.is_local:
                return  # until it is healed: the others have their time to come to their end
            await self._a_while()
            self._world.refusing.pop(order_id, None)

    async def _refuse_many(self, trouble: Trouble) -> None:
        """A database refuses all rows of its service, or those of most orders, for a while: after a bad migration."""
        world = self._world
        most = trouble is Trouble.REFUSE_MOST
        name = self._rng.choice(("payment", "order") if most else ("payment", "inventory", "order", "order"))
        refusing = world.refusing_most if most else world.refusing_all
        if name == "order":
            await asyncio.sleep(PLACED_S)
        refusing.add(name)
        if world.plan.is_local:
            return  # until it is healed
        await asyncio.sleep(2.0 + 2 * self._rng.random())
        refusing.discard(name)

    async def _a_while(self) -> None:
        """In a late world, until the hour of the purge is over."""
        plan = self._world.plan
        await asyncio.sleep(plan.troubled_s if plan.idle_s else self._rng.random() * AWAY_MAX_S)


def _headers(key: str) -> dict[str, bytes | None]:
    """The headers of an event."""
    return {
        "ce_specversion": b"1.0",
        "ce_id": b"6f1a3f5e-5b0e-5c6e-9a7d-0d2f7c1b9e42",
        "ce_type": b"orderflow.StockReserved.v1",
        "ce_source": b"/elsewhere",
        "ce_subject": key.encode(),
        "ce_sequence": b"1",
    }
