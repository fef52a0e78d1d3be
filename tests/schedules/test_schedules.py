"""Some schedules of every case, and the scheduler's own honesty."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from click.testing import CliRunner

from tests.schedules.__main__ import main
from tests.schedules.cases import CASES
from tests.schedules.explore import Bench, Case, Part, explore, opened, preemptions
from tests.schedules.turns import Move
from tests.support.postgres import PostgresServer


@pytest.fixture
def url(postgres: PostgresServer) -> Any:
    """An empty database of this test alone."""
    name = f"turns_{uuid4().hex[:12]}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.mark.parametrize("name", CASES)
async def test_every_schedule_keeps_what_the_case_says(url: str, name: str) -> None:
    done = await explore(CASES[name], [url], 0, CASES[name].in_suite, 1e9)
    assert done.failure is None, done


class Transfers(Case):
    """Two that lock two rows in opposite order, and one that adds to what it has read before: both are wrong."""

    name = "transfers"
    about = "to be broken"

    async def open(self, url: str) -> None:
        self.sessions = [await asyncpg.connect(url) for _ in range(3)]
        await self.sessions[0].execute("CREATE TABLE accounts (n integer PRIMARY KEY, amount integer)")

    async def begin(self, rng: Random) -> Mapping[str, Part]:
        await self.sessions[2].execute("DELETE FROM accounts; INSERT INTO accounts VALUES (1, 0), (2, 0)")
        return {"a": lambda: self.add(0, 1, 2), "b": lambda: self.add(1, 2, 1)}

    async def add(self, session: int, *rows: int) -> None:
        async with self.sessions[session].transaction():
            for row in rows:
                await self.sessions[session].execute("UPDATE accounts SET amount = amount + 1 WHERE n = $1", row)

    async def check(self) -> AsyncIterator[str]:
        for row in await self.sessions[2].fetch("SELECT * FROM accounts WHERE amount <> 2"):
            yield f"{row['n']} is {row['amount']}"

    async def close(self) -> None:
        for each in self.sessions:
            await each.close()


class LostUpdates(Transfers):
    """What is read is written back later."""

    name = "lost-updates"

    async def add(self, session: int, *rows: int) -> None:
        for row in rows:
            amount = await self.sessions[session].fetchval("SELECT amount FROM accounts WHERE n = $1", row)
            await self.sessions[session].execute("UPDATE accounts SET amount = $2 WHERE n = $1", row, amount + 1)


@pytest.fixture
async def transfers(url: str) -> AsyncIterator[Bench]:
    async with opened(Transfers(), url) as bench:
        yield bench


async def test_a_deadlock_is_found_and_shown_with_the_least_turns(transfers: Bench) -> None:
    found = await transfers.random(range(100))
    assert found.failure is not None
    assert any(each.startswith("deadlock") for each in found.failure.broken)
    assert preemptions(found.failure.turns)[0] <= 5


async def test_a_seed_is_the_same_schedule_every_time(url: str) -> None:
    async with opened(CASES["redelivered"](), url) as bench:
        first = [(await bench.seeded(seed)).turns for seed in range(12)]
        again = [(await bench.seeded(seed)).turns for seed in reversed(range(12))]
    assert first == again[::-1]
    assert [[turn.at for turn in turns] for turns in first] == [[turn.at for turn in turns] for turns in again[::-1]]
    assert any(turn.move is not Move.GO for turns in first for turn in turns)


async def test_all_schedules_of_a_small_case_are_as_many_as_there_are_ways_to_merge_them(url: str) -> None:
    async with opened(LostUpdates(), url) as bench:
        bench.case.check = nothing  # type: ignore[method-assign]
        done = await bench.all(1_000)
    assert (done.complete, done.schedules) == (True, 70)


async def test_an_update_that_is_lost_is_found(url: str) -> None:
    async with opened(LostUpdates(), url) as bench:
        done = await bench.all(1_000)
    assert done.failure is not None


async def nothing() -> AsyncIterator[str]:
    told: Sequence[str] = ()
    for each in told:
        yield each


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["nothing"], "no case is called nothing"), (["--seed", "1"], "--seed plays a schedule of one case")],
)
def test_wrong_usage_says_what_is_to_be_given(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert told in done.output
