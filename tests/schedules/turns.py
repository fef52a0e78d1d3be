"""Actors that take turns at every statement that they send to PostgreSQL, as a chooser says.

An actor is a coroutine that runs production code. Before each statement it stops; who goes on is chosen when all have
stopped, wait for a lock, or are done. That a statement waits is not guessed from the time that it takes: the server
is asked whom it waits for, until the answer is one that only another turn can change. So one sequence of choices is
one schedule, on any machine, however busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar
from weakref import WeakSet

import asyncpg

BRIEF_S = 0.001
"""A statement that takes longer may be waiting: the server is asked."""

STANDSTILL_S = 120.0
POINTS = 1868981655
"""The class of the advisory locks at which statements stop inside (see `stops.sql`)."""

BLOCKERS = "SELECT pid, pg_blocking_pids(pid) FROM unnest($1::integer[]) WITH ORDINALITY AS w (pid, n) ORDER BY n"
ALIVE = "SELECT count(*) FROM unnest($1::integer[]) AS pid CROSS JOIN LATERAL pg_stat_get_activity(pid)"
HOLD = "SELECT pg_advisory_lock($1, $2)"
LET_GO = "SELECT pg_advisory_unlock($1, pid) FROM unnest($2::integer[]) AS pid"

T = TypeVar("T")
CURRENT: ContextVar[Actor | None] = ContextVar("actor", default=None)
SESSIONS: WeakSet[Any] = WeakSet()
"""All that were opened to take turns: who waits for one of them waits for somebody whom we know."""

OWNERS: dict[int, str] = {}
"""Which actor has used a session last, by the session's process at the server."""


class Move(StrEnum):
    """What a turn is: the statement runs, its session is lost before it or with its answer, or the process dies."""

    GO = "goes on"
    LOSE = "loses its session before"
    LOSE_ANSWER = "loses the answer of"
    DIE = "dies before"
    DIE_AFTER = "dies after"


CUTS = (Move.LOSE, Move.LOSE_ANSWER, Move.DIE, Move.DIE_AFTER)
BEFORE = (Move.LOSE, Move.DIE)
DEATHS = (Move.DIE, Move.DIE_AFTER)


@dataclass(frozen=True, slots=True)
class Turn:
    """A choice: which actor, and what happens to it. `at` is where it had stopped: to be read, not chosen."""

    actor: str
    move: Move = Move.GO
    at: str = field(default="", compare=False)


CLOCK = "time"
"""An actor of this name is no process: nobody can cut it."""


class State(StrEnum):
    RUNNING = "runs"
    STOPPED = "has stopped"
    WAITING = "waits for a lock"
    DONE = "is done"


class DiedError(BaseException):
    """The process of this actor is dead: no code of it runs any more but to clear away."""


class StandstillError(AssertionError):
    """An actor neither goes on nor waits for another one: the scheduler does not understand what it does."""


@dataclass(eq=False)
class Actor:
    """One process, or what takes part like one."""

    name: str
    table: Table
    state: State = State.RUNNING
    at: str = ""
    cut: bool = False
    dead: bool = False
    inside: bool = False
    pid: int | None = None
    error: BaseException | None = None
    sessions: set[Any] = field(default_factory=set)
    turn: asyncio.Future[Move] | None = None

    async def pause(self, at: str) -> Move:
        """Stop here until it is this actor's turn."""
        if self.dead:
            raise DiedError
        self.at = at
        self.turn = asyncio.get_running_loop().create_future()
        self.move_to(State.STOPPED)
        try:
            return await self.turn
        except asyncio.CancelledError:
            self.state = State.RUNNING
            raise

    async def statement(self, session: Any, at: str, run: Callable[[], Awaitable[T]]) -> T:
        """A statement on a session, as its turn will have it."""
        move = await self.pause(at)
        self.sessions.add(session)
        if move in BEFORE:
            await self.table.cut(self, session, move)
        self.pid = session.get_server_pid()
        OWNERS[self.pid] = self.name
        await self.table.hold(self.pid)
        try:
            answer = await run()
        except asyncpg.DeadlockDetectedError:
            self.table.deadlocks.append(f"{self.name} at {at}")
            raise
        finally:
            self.pid = None
            # What a transaction has locked, it keeps to its end.
            self.table.freed |= session.is_closed() or not session.is_in_transaction()
        if move is not Move.GO:
            await self.table.cut(self, session, move)
        return answer

    def move_to(self, state: State) -> None:
        self.state = state
        self.table.moved.set()


async def point(at: str) -> None:
    """A place at which others may go on although nothing is asked of PostgreSQL there. A cut is a death here."""
    actor = CURRENT.get()
    if actor is None:
        return
    if await actor.pause(at) is not Move.GO:
        await actor.table.cut(actor, None, Move.DIE)


class Table:
    """Lets actors take turns. `control` is a session of its own; `inside`: statements stop within, too.

    `choose` picks from the turns that may be next, in an order that depends on nothing but the turns before. `cuts`
    is how many of them may be one of CUTS.
    """

    def __init__(
        self, control: Any, choose: Callable[[Sequence[Turn]], Turn], *, cuts: int = 0, inside: bool = False
    ) -> None:
        self.moved = asyncio.Event()
        self.freed = False
        self.deadlocks: list[str] = []
        self.taken: list[Turn] = []
        self.actors: list[Actor] = []
        self._control = control
        self._asking = asyncio.Lock()
        self._choose = choose
        self._cuts = cuts
        self._inside = inside
        self._held: set[int] = set()
        self._running: list[asyncio.Task[None]] = []

    async def play(self, parts: Mapping[str, Callable[[], Awaitable[object]]]) -> None:
        """Until all are done. Raises StandstillError."""
        try:
            for name, part in parts.items():
                actor = Actor(name, self)
                self.actors.append(actor)
                self._running.append(asyncio.create_task(self._act(actor, part)))
            while True:
                await self._settle()
                stopped = self._in(State.STOPPED)
                if not stopped:
                    return
                await self._give(self._choose(self._turns(stopped)))
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            await self._ask(LET_GO, POINTS, list(self._held))

    async def cut(self, actor: Actor, session: Any, move: Move) -> None:
        """End the session, or the process with all of its sessions. Raises what its code would see."""
        actor.cut = self.freed = True
        ended = list(actor.sessions) if move in DEATHS else [session]
        pids = [each.get_server_pid() for each in ended if not each.is_closed()]
        for each in ended:
            each.terminate()
        await self._gone(pids)
        if move in DEATHS:
            actor.dead = True
            raise DiedError
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    async def hold(self, pid: int) -> None:
        """From now on, statements of this session stop inside."""
        if self._inside and pid not in self._held:
            self._held.add(pid)
            await self._ask(HOLD, POINTS, pid)

    async def _act(self, actor: Actor, part: Callable[[], Awaitable[object]]) -> None:
        CURRENT.set(actor)
        try:
            await part()
        except DiedError:
            """As it was to be."""
        except Exception as error:  # noqa: BLE001  # the case judges it
            actor.error = error
        finally:
            actor.move_to(State.DONE)

    def _turns(self, stopped: Sequence[Actor]) -> Sequence[Turn]:
        """Who went last comes first; cuts come last."""
        last = self.taken[-1].actor if self.taken else ""
        order = sorted(stopped, key=lambda actor: (actor.name != last, actor.name))
        turns = [Turn(actor.name, Move.GO, actor.at) for actor in order]
        if sum(turn.move is not Move.GO for turn in self.taken) < self._cuts:
            mortal = [actor for actor in order if not actor.inside and actor.name != CLOCK]
            turns += [Turn(actor.name, move, actor.at) for move in CUTS for actor in mortal]
        return turns

    async def _give(self, turn: Turn) -> None:
        self.taken.append(turn)
        [actor] = [each for each in self.actors if each.name == turn.actor]
        actor.state = State.RUNNING
        if actor.inside:
            actor.inside = False
            self.freed = True
            # The server hands it on at once; to have it back, we wait until the statement has passed.
            await self._ask(LET_GO, POINTS, [actor.pid])
            await self._ask(HOLD, POINTS, actor.pid)
        else:
            assert actor.turn is not None
            actor.turn.set_result(turn.move)

    async def _settle(self) -> None:
        """Return when every actor has stopped, is done, or waits for one of those."""
        try:
            async with asyncio.timeout(STANDSTILL_S):
                while not await self._is_settled():
                    """Ask again."""
        except TimeoutError:
            states = ", ".join(f"{each.name} {each.state} ({each.at})" for each in self.actors)
            raise StandstillError(f"nobody goes on: {states}") from None

    async def _is_settled(self) -> bool:
        if self._in(State.RUNNING):
            await self._brief()
        open_ = self._in(State.RUNNING, State.WAITING)
        if not open_ or not (self.freed or self._in(State.RUNNING)):
            return True
        self.freed = False
        waits = await self._waits([each for each in open_ if each.pid is not None and not is_impatient(each.at)])
        for actor in open_:
            if actor.state in (State.RUNNING, State.WAITING):
                actor.state = State.WAITING if actor in waits else State.RUNNING
        return not self._in(State.RUNNING) and not self.freed

    def _in(self, *states: State) -> list[Actor]:
        return [actor for actor in self.actors if actor.state in states]

    async def _waits(self, asked: Sequence[Actor]) -> set[Actor]:
        """Those that wait for a lock that only somebody who has stopped, or is done, can give.

        Asked so often that who waits for a waiting one was asked after that one was seen to wait for good.
        """
        pids = [actor.pid for actor in asked]
        if not pids:
            return set()
        busy = {each.pid for each in self.actors if each.pid is not None and not each.inside}
        rows = await self._ask(BLOCKERS, pids * len(pids))
        mine = self._control.get_server_pid()
        known = {session.get_server_pid() for session in SESSIONS if not session.is_closed()}
        seen: set[int] = set()
        for pid, blockers in rows:
            actor = next(each for each, its in zip(asked, pids, strict=True) if its == pid)
            if actor.pid != pid:
                continue
            if mine in blockers:
                actor.inside = True
                actor.at = f"inside {actor.at.removeprefix('inside ')}"
                actor.state = State.STOPPED
            if blockers and actor.state is not State.STOPPED and known.difference(busy - seen).issuperset(blockers):
                seen.add(pid)
        return {actor for actor in asked if actor.pid in seen}

    async def _ask(self, query: str, *arguments: object) -> Sequence[Any]:
        async with self._asking:
            rows: Sequence[Any] = await self._control.fetch(query, *arguments)
            return rows

    async def _brief(self) -> None:
        self.moved.clear()
        try:
            async with asyncio.timeout(BRIEF_S):
                await self.moved.wait()
        except TimeoutError:
            """Then it takes longer."""

    async def _gone(self, pids: Sequence[int]) -> None:
        """What a session held is free when it is gone."""
        while pids and (await self._ask(ALIVE, list(pids)))[0][0]:
            await self._brief()


def is_impatient(at: str) -> bool:
    """A statement that waits for no lock longer than a moment: its end is awaited instead."""
    return at.startswith("DELETE FROM outbox_pending")
