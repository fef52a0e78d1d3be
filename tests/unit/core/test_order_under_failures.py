"""Whatever fails, and however often: a key's events are handled in order and once, or wait behind a dead one."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import replace

import msgspec
import pytest

from orderflow.core.engine import Engine
from orderflow.core.transport import ProducerRecord
from tests.support.waiting import eventually
from tests.unit.core.test_engine import QUICK, Running
from tests.unit.core.toy import Counted, Movement, Opened
from tests.unit.core.world import record_of

KEYS = 30
EVENTS = 12
POISONED = 2
READABLE = 9
TYPES = (Counted.TYPE, Opened.TYPE)
CONFIG = replace(
    QUICK,
    batch_max=40,
    attempts_max=10**6,
    parked_keys_max=12,
    parked_depth_max=5,
    retry_first_ms=2,
    retry_ceiling_ms=8,
)


class Storm:
    """A run in which everything fails for a time, drawn from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.running = Running()
        self.engines: list[Engine] = []

    async def produce(self) -> None:
        """The first keys have a record that cannot be decoded after READABLE of their events."""
        numbers = [n for n in range(KEYS) for _ in range(EVENTS)]
        self.rng.shuffle(numbers)
        amounts = dict.fromkeys(range(KEYS), 0)
        records: list[ProducerRecord] = []
        for n in numbers:
            amounts[n] += 1
            event = record_of(Counted(name=f"k{n}", amount=amounts[n]), offset=0)
            records.append(ProducerRecord("counts", event.key, event.value, event.headers))
            if n < POISONED and amounts[n] == READABLE:
                records.append(ProducerRecord("counts", event.key, b"?", ()))
        while records:
            size = self.rng.randint(1, 60)
            await self.running.transport.append(records[:size])
            del records[:size]
            await self.trouble()

    async def trouble(self) -> None:
        """One more thing breaks, is mended, or dies."""
        moods, world, rng = self.running.world.moods, self.running.world, self.rng
        match rng.randrange(8):
            case 0:
                moods.broken.add(f"k{rng.randrange(KEYS)}")
            case 1:
                moods.broken.add(rng.choice(TYPES))
            case 2:
                moods.away.add(f"k{rng.randrange(KEYS)}")
            case 3:
                world.lose(rng.choice(("begin", "open", "opened", "commit", "committed")))
            case 4:
                moods.broken.clear()
            case 5:
                moods.away.clear()
            case 6:
                await self.engines.pop(rng.randrange(len(self.engines))).kill()
                self.start()
            case _:
                self.start()
        for _ in range(rng.randrange(30)):
            await asyncio.sleep(0)

    def start(self) -> None:
        engine = self.running.engine(config=CONFIG)
        self.engines.append(engine)
        engine.start()


@pytest.mark.parametrize("seed", range(25))
async def test_the_handled_order_of_each_key_is_the_produced_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orderflow.core.consumer.RECORDS_MAX", 60)
    monkeypatch.setattr("orderflow.core.consumer.PROBES_KEPT", 4)
    monkeypatch.setattr("orderflow.core.progress.LOOK_S", 0.02)
    monkeypatch.setattr("orderflow.core.progress.LOOK_AGAIN_S", 0.02)
    monkeypatch.setattr("orderflow.core.circuit_breaker.NEGLECTED_S", 0.05)
    monkeypatch.setattr("orderflow.core.decisions.LOOK_WHEN_FULL_S", 0.01)
    storm = Storm(seed)
    storm.start()
    try:
        await storm.produce()
        storm.running.world.moods.broken.clear()
        storm.running.world.moods.away.clear()
        await eventually(storm.running.lag_is_zero)
        stuck = POISONED * (1 + EVENTS - READABLE)
        await eventually(lambda: len(storm.running.world.parked()) == stuck)
    finally:
        for engine in storm.engines:
            await engine.kill()

    for n in range(KEYS):
        readable = READABLE if n < POISONED else EVENTS
        assert handled(storm.running, f"k{n}") == list(range(1, readable + 1))
        waiting = [("DEAD", 0), *(("PARKED", each) for each in range(readable + 1, EVENTS + 1))]
        assert parked(storm.running, f"k{n}") == (waiting if n < POISONED else [])


def handled(running: Running, key: str) -> list[int]:
    """The amounts of a key in the order of their commits: each total in the ledger is the last one and an amount."""
    facts = running.world.database.state.facts.values()
    totals = [fact.number for fact in facts if isinstance(fact, Movement) and fact.name == key]
    return [after - before for before, after in itertools.pairwise([0, *totals])]


def parked(running: Running, key: str) -> list[tuple[str, int]]:
    """(state, amount) of what waits, in order; 0 for what cannot be decoded."""
    events = sorted((each for each in running.world.parked() if each.key == key), key=lambda each: each.position)
    return [(each.state.name, 0 if each.failure else _amount(each.record.value)) for each in events]


def _amount(value: bytes | None) -> int:
    return msgspec.json.decode(value or b"", type=Counted).amount
