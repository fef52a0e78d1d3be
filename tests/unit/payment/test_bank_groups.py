"""The bank's book is written in groups: whoever has asked gets an answer, whatever becomes of the writing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from orderflow.bank.postgres import CommitGroup
from tests.support.interleaving import Scene, at_each_step


def test_what_is_added_while_a_group_is_written_is_written_with_the_next() -> None:
    def make() -> Scene:
        async def write(entries: Mapping[str, int]) -> Mapping[str, int]:
            for _ in range(3):
                await asyncio.sleep(0)
            return entries

        group = CommitGroup[int](write)
        found: list[int | None] = []

        async def add(number: int) -> None:
            found.append(await group.add(str(number), number))

        async def check() -> None:
            assert sorted(number or 0 for number in found) == [1, 2]

        return Scene(lambda: add(1), lambda: add(2), check)

    assert at_each_step(make) > 10


async def test_an_error_that_nobody_expects_reaches_all_who_asked_and_the_next_group_is_written() -> None:
    failing = [True]

    async def write(entries: Mapping[str, int]) -> Mapping[str, int]:
        await asyncio.sleep(0)
        if failing.pop():
            failing.append(False)
            raise KeyError("a column that is not there")
        return entries

    group = CommitGroup[int](write)
    async with asyncio.timeout(60):
        with pytest.raises(KeyError):
            await group.add("a", 1)
        failing.append(False)
        assert await group.add("b", 2) == 2
