"""Schedules of one case: seeded ones, all of them, the one that was recorded, and the shortest that still fails."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import pairwise
from random import Random
from typing import Any, ClassVar

from orderflow.core.store import StoreUnavailableError
from orderflow.core.transport import TransportUnavailableError
from tests.schedules.sessions import plain, taking_turns
from tests.schedules.turns import Move, StandstillError, Table, Turn

CUT_SHARE = 0.06
STAY_SHARE = 0.4
SHRINK_TRIES = 40
Part = Callable[[], Awaitable[object]]
AWAY = (StoreUnavailableError, TransportUnavailableError)


class Case(ABC):
    """Some actors over one database, and what must hold after each of their schedules.

    `cuts`: how many sessions or processes may be lost in a schedule. Statements that change rows of the tables
    `stops` stop there as well. `in_suite`: how many schedules the test suite looks at. An actor may end with an error
    of `AWAY` only if it was cut.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    in_suite: ClassVar[int] = 30
    cuts: ClassVar[int] = 0
    stops: ClassVar[Sequence[str]] = ()

    @abstractmethod
    async def open(self, url: str) -> None:
        """Make the tables in an empty database, and what lives through all schedules."""

    @abstractmethod
    async def begin(self, rng: Random) -> Mapping[str, Part]:
        """Everything as if new, for one schedule; returns its actors."""

    @abstractmethod
    def check(self) -> AsyncIterator[str]:
        """What is broken, when all have ended. Not one of the actors, so it stops nowhere."""

    @abstractmethod
    async def close(self) -> None:
        """Give up what `open` made."""


@dataclass(frozen=True, slots=True)
class Played:
    """One schedule: its turns, and what was broken after it."""

    turns: Sequence[Turn]
    broken: Sequence[str]


@dataclass(frozen=True, slots=True)
class Explored:
    """`seed` is that of the failing schedule; `complete`: these were all schedules that there are."""

    case: str
    schedules: int
    turns: int
    seconds: float
    complete: bool = False
    seed: int | None = None
    failure: Played | None = None

    @property
    def rate(self) -> float:
        """Schedules a second."""
        return self.schedules / self.seconds if self.seconds else 0.0


class Bench:
    """A case that is open, and what plays its schedules."""

    def __init__(self, case: Case, control: Any) -> None:
        self.case = case
        self._control = control

    async def play(self, seed: int, choose: Callable[[Sequence[Turn]], Turn], *, cuts: int | None = None) -> Played:
        """One schedule of the case as the seed makes it."""
        case = self.case
        parts = await case.begin(Random(seed))
        wanted = case.cuts if cuts is None else cuts
        table = Table(self._control, choose, cuts=wanted, inside=bool(case.stops))
        broken: list[str] = []
        try:
            await table.play(parts)
        except StandstillError as error:
            broken.append(str(error))
        broken += [f"deadlock: {each}" for each in table.deadlocks]
        for actor in table.actors:
            ended = actor.error
            if ended is not None and not (isinstance(ended, AWAY) and actor.cut):
                broken.append(f"{actor.name}: {type(ended).__name__}: {ended}")
        broken += [each async for each in case.check()]
        return Played(table.taken, broken)

    async def seeded(self, seed: int) -> Played:
        return await self.play(seed, seeded(Random(seed + 1)))

    async def random(self, seeds: Iterable[int], *, until: float = float("inf")) -> Explored:
        """The schedules of these seeds, to the first that fails, or to a moment of the monotonic clock."""
        started, turns, count = time.monotonic(), 0, 0
        for seed in seeds:
            played = await self.seeded(seed)
            turns += len(played.turns)
            count += 1
            if played.broken:
                took = time.monotonic() - started
                return Explored(
                    self.case.name, count, turns, took, seed=seed, failure=await self.shrink(seed, played)
                )
            if time.monotonic() > until:
                break
        return Explored(self.case.name, count, turns, time.monotonic() - started)

    async def all(self, limit: int, seed: int = 0) -> Explored:
        """Every schedule of the seed's case without cuts, in order, to the first that fails or to the limit."""
        started, turns, count = time.monotonic(), 0, 0
        path: list[list[int]] = []
        while count < limit:
            played = await self.play(seed, along(path), cuts=0)
            count += 1
            turns += len(played.turns)
            if played.broken:
                took = time.monotonic() - started
                return Explored(self.case.name, count, turns, took, seed=seed, failure=played)
            while path and path[-1][0] + 1 >= path[-1][1]:
                path.pop()
            if not path:
                return Explored(self.case.name, count, turns, time.monotonic() - started, complete=True)
            path[-1][0] += 1
        return Explored(self.case.name, count, turns, time.monotonic() - started)

    async def shrink(self, seed: int, failed: Played) -> Played:
        """A failure with fewer turns that were not the obvious next ones; as far as some tries go."""
        tries, size = SHRINK_TRIES, max(1, len(failed.turns) // 2)
        while size and tries:
            place = 0
            while place < len(failed.turns) and tries:
                tries -= 1
                fewer = [*failed.turns[:place], *failed.turns[place + size :]]
                played = await self.play(seed, recorded(fewer))
                if played.broken and preemptions(played.turns) < preemptions(failed.turns):
                    failed = played
                else:
                    place += size
            size //= 2
        return failed


async def explore(
    case: type[Case], urls: Sequence[str], first: int, end: int, seconds: float, *, every: bool = False
) -> Explored:
    """One database a lane: while one waits for the server, others go on. `every`: all schedules, up to so many."""
    until = time.monotonic() + seconds

    async def lane(number: int, url: str) -> Explored:
        async with opened(case(), url) as bench:
            if every:
                return await bench.all(end - first)
            return await bench.random(range(first + number, end, len(urls)), until=until)

    lanes = await asyncio.gather(*(lane(number, url) for number, url in enumerate(urls[: 1 if every else None])))
    failed = min((each for each in lanes if each.failure), key=lambda each: each.seed or 0, default=lanes[0])
    return replace(
        failed,
        schedules=sum(each.schedules for each in lanes),
        turns=sum(each.turns for each in lanes),
        seconds=max(each.seconds for each in lanes),
    )


@asynccontextmanager
async def opened(case: Case, url: str) -> AsyncIterator[Bench]:
    """The case on an empty database."""
    with taking_turns():
        control = await plain(url)
        try:
            await case.open(url)
            await control.execute(files(__package__ or "").joinpath("stops.sql").read_text("utf-8"))
            for table in case.stops:
                await control.execute(
                    f"CREATE TRIGGER a_stop BEFORE INSERT OR UPDATE OR DELETE ON {table}"
                    " FOR EACH ROW EXECUTE FUNCTION stop_here()"
                )
            yield Bench(case, control)
        finally:
            await case.close()
            await control.close()


def seeded(rng: Random) -> Callable[[Sequence[Turn]], Turn]:
    """Anyone who can, or, as often, whoever went last; with a cut now and then."""

    def choose(turns: Sequence[Turn]) -> Turn:
        going = [turn for turn in turns if turn.move is Move.GO]
        cuts = turns[len(going) :]
        if cuts and rng.random() < CUT_SHARE:
            return rng.choice(cuts)
        return going[0] if rng.random() < STAY_SHARE else rng.choice(going)

    return choose


def recorded(turns: Sequence[Turn]) -> Callable[[Sequence[Turn]], Turn]:
    """These turns as far as they can be taken, then whoever went last for as long as it goes."""
    left = list(turns)

    def choose(possible: Sequence[Turn]) -> Turn:
        while left:
            turn = left.pop(0)
            if turn in possible:
                return next(each for each in possible if each == turn)
        return possible[0]

    return choose


def along(path: list[list[int]]) -> Callable[[Sequence[Turn]], Turn]:
    """The choices of a path in the tree of choices, then the first each time; the path grows by what was chosen."""
    depth = 0

    def choose(turns: Sequence[Turn]) -> Turn:
        nonlocal depth
        if depth == len(path):
            path.append([0, len(turns)])
        depth += 1
        return turns[path[depth - 1][0]]

    return choose


def preemptions(turns: Sequence[Turn]) -> tuple[int, int]:
    """How hard a schedule is to read: cuts and changes of the actor, then its length."""
    changes = sum(a.actor != b.actor for a, b in pairwise(turns))
    return changes + 3 * sum(turn.move is not Move.GO for turn in turns), len(turns)
