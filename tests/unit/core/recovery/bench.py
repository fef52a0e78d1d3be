"""Dead letters of the toy service over a database and a log in memory, and processes that run it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from typing import ClassVar

from orderflow.core.engine import Engine, EngineConfig
from orderflow.core.inbox import InboxState, ParkedEvent
from orderflow.core.messages import Catalogue, Envelope, Message
from orderflow.core.operations.model import LetterFilter, Replay, ReplayPlan, ReplayState
from orderflow.core.operations.recovery import Recovery
from orderflow.core.processor import Processor
from orderflow.core.service import Decision, Handler, IllegalTransitionError, Row, Rows
from orderflow.core.store import Act, Plan, TransitionRefusedError
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.testing.state import Rules
from orderflow.core.testing.store import MemoryStore
from orderflow.core.transport import ProducerRecord, TopicSettings
from tests.support.callers import person
from tests.support.waiting import eventually
from tests.unit.core.toy import Counted, Tally, ToyEvent, refuse_666, touches
from tests.unit.core.world import World, record_of

ME = Act(caller=person("ada"), reason="mended in 1.2.4", confirmed=True)
DEAD = LetterFilter()
AS_FAST_AS_IT_GOES = ReplayPlan(canary=False, failing_share_max=1)
QUICK = EngineConfig(attempts_max=1, retry_first_ms=5, retry_ceiling_ms=5, infrastructure_ceiling_ms=5)
SEQUENCES = ("outbox_ids", "positions", "moments")


class Closed(ToyEvent, frozen=True, kw_only=True):
    """Illegal while there is nothing to close."""

    TYPE: ClassVar[str] = "toy.Closed"


def closed(rows: Rows, envelope: Envelope) -> Decision:
    tally = rows.get(Tally, envelope.key)
    if tally is None:
        raise IllegalTransitionError("tallies", "none", "Closed")
    return Decision(rows=(Tally(name=tally.name, total=0),))


def refuse_777(before: Row | None, row: Row) -> None:
    """As the trigger of a state machine in PostgreSQL does."""
    if isinstance(row, Tally) and row.total == 777:
        raise TransitionRefusedError("tallies: no such transition", "OF001")


class Bench:
    """One toy service, whose events die at their first failure. `engine` is a process that is not started."""

    def __init__(self, confirm: str = "") -> None:
        self.world = world = World(attempts_max=1)
        world.database.rules = Rules((refuse_666, refuse_777), frozenset((Tally,)))
        world.service = replace(
            world.service,
            catalogue=Catalogue((*world.service.catalogue.types, Closed)),
            handlers={**world.service.handlers, Closed: Handler(touches, closed)},
            confirm=confirm,
        )
        world.processor = self.processor()
        self.log = MemoryLog(world.clock, random.Random(1), session_timeout_s=0.05)
        self.log.create([TopicSettings(name, 1) for name in ("counts", "totals", "flow-status", "counts.DLT")])
        self.engine = self.process()

    @property
    def recovery(self) -> Recovery:
        return self.engine.recovery

    def process(self, config: EngineConfig = QUICK) -> Engine:
        """Another process of the service."""
        return Engine(
            self.world.service,
            MemoryStore(self.world.database),
            MemoryTransport(self.log),
            gateway=None,
            signals=self.world.signals,
            clock=self.world.clock,
            rng=random.Random(3),
            config=config,
        )

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Engine]:
        self.engine.start()
        try:
            yield self.engine
        finally:
            await self.engine.kill()

    def processor(self) -> Processor:
        """A way in that has seen nothing fail yet: many keys that fail alike at one would be judged an outage."""
        world = self.world
        return Processor(world.service, world.store, world.policy, world.signals, world.clock, world.committed.append)

    async def bury(self, *names: str, amount: int = 1) -> list[ParkedEvent]:
        """An event of each of these keys dies; what made it fail is mended then."""
        self.world.moods.broken.update(names)
        for name in names:
            await self.processor().admit("counter", [self.world.read(self.counted(name, amount))])
        self.world.moods.broken.difference_update(names)
        return [event for event in self.world.parked() if event.key in names]

    async def publish(self, *events: Message) -> None:
        """As another service would."""
        records = [record_of(event, offset=0) for event in events]
        await MemoryTransport(self.log).append(
            [ProducerRecord("counts", record.key, record.value, record.headers) for record in records]
        )

    def counted(self, name: str, amount: int) -> Message:
        return Counted(name=name, amount=amount)

    async def ended(self, number: int) -> Replay:
        """The replay once it does not run any more."""

        async def over() -> Replay | None:
            replay = await self.recovery.find_replay(number)
            return replay if replay.state is not ReplayState.RUNNING else None

        replay = await eventually(over)
        assert replay is not None
        return replay

    async def replay_all(self) -> None:
        """To the end, whatever fails again."""
        async with self.started():
            for _ in range(bool(self.world.parked())):
                begun = await self.recovery.replay(DEAD, AS_FAST_AS_IT_GOES, ME)
                await self.ended(begun.number)

    def state_of(self, event: ParkedEvent) -> InboxState:
        return self.world.database.state.inbox[event.key, "counter", event.identity].state

    def checksum(self) -> dict[str, object]:
        """Every table of the database as text, whatever the order of its rows.

        What was drawn from a sequence is not given back.
        """
        state = self.world.database.state
        tables = {each.name: getattr(state, each.name) for each in fields(state) if each.name not in SEQUENCES}
        return {
            name: sorted(map(repr, table.items())) if isinstance(table, dict) else repr(table)
            for name, table in tables.items()
        }


async def held_lock(bench: Bench, numbers: list[int], until: asyncio.Event) -> None:
    """Live traffic that keeps these locks."""
    async with bench.world.store.transaction() as tx:
        await tx.open(Plan("counter", locks=numbers))
        await until.wait()
