"""Plays rounds until every cell that is asked for was tried, and says what came of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orderflow.core import crash_points
from orderflow.core.crash_points import Point
from tests.crashes.cells import Cell, Day, rounds_of
from tests.crashes.installation import Installation
from tests.crashes.rounds import Outcome, Scene
from tests.support.postgres import PostgresServer

SHOWN = 2


@dataclass(frozen=True, slots=True)
class Servers:
    """What all installations share. Without `bootstrap` only the log in PostgreSQL can be tried."""

    postgres: PostgresServer
    bootstrap: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the process died at its point, and what was broken afterwards."""

    cell: Cell
    reached: bool
    broken: Sequence[str] = ()

    @property
    def holds(self) -> bool:
        return self.reached and not self.broken

    def __str__(self) -> str:
        if not self.reached:
            return f"{self.cell}: was not reached"
        if not self.broken:
            return f"{self.cell}: holds"
        more = f"; and {len(self.broken) - SHOWN} more" if len(self.broken) > SHOWN else ""
        return f"{self.cell}: {'; '.join(self.broken[:SHOWN])}{more}"


class Matrix:
    """`told` hears of each verdict. A process dies when it has reached its point `times` times."""

    def __init__(
        self,
        servers: Servers,
        *,
        times: int = 1,
        planted: Sequence[str] = (),
        told: Callable[[Verdict], None] = lambda _: None,
    ) -> None:
        self._servers = servers
        self._times = times
        self._planted = planted
        self._told = told
        self._verdicts: list[Verdict] = []

    async def play(self, cells: Sequence[Cell], jobs: int = 1) -> list[Verdict]:
        """All cells, each log with `jobs` installations side by side."""
        logs = dict.fromkeys(cell.log for cell in cells)
        async with asyncio.TaskGroup() as group:
            for log in logs:
                waiting = rounds_of([cell for cell in cells if cell.log == log])
                for _ in range(min(jobs, len(waiting))):
                    group.create_task(self._work_off(log, waiting))
        return self._verdicts

    async def _work_off(self, log: str, waiting: list[tuple[Day, list[Cell]]]) -> None:
        scene: Scene | None = None
        try:
            while waiting:
                day, cells = waiting.pop(0)
                if day is Day.MIGRATE:
                    await self._migrate(log, cells)
                    continue
                if scene is None:
                    scene = await self._open(log)
                outcome = await scene.play(day, cells, self._times)
                if outcome.broken:
                    await scene.close()
                    scene = None
                    if len(cells) > 1:
                        # Which of them it was: each alone, on an installation of its own.
                        waiting[:0] = [(day, [cell]) for cell in cells]
                        continue
                self._tell(outcome)
        finally:
            if scene is not None:
                await scene.close()

    async def _open(self, log: str) -> Scene:
        scene = Scene(self._installation(log))
        try:
            await scene.open()
        except BaseException:
            await scene.close()
            raise
        return scene

    def _installation(self, log: str) -> Installation:
        bootstrap = self._servers.bootstrap if log == "kafka" else None
        return Installation(self._servers.postgres, bootstrap, self._planted)

    async def _migrate(self, log: str, cells: Sequence[Cell]) -> None:
        """`orderflow migrate` dies after each of the first migrations, then goes through, and orders flow."""
        installation = self._installation(log)
        scene = Scene(installation)
        outcome = Outcome(reached=list(cells))
        try:
            for times in (1, 2, 5):
                code = await installation.migrate(f"{Point.MIGRATION_APPLIED}@{times}")
                if code != crash_points.EXIT_CODE:
                    outcome = Outcome(missed=list(cells))
            code = await installation.migrate(crash_points.NEVER)
            if code:
                outcome.broken.append(f"`orderflow migrate` ended with {code}")
            await scene.open()
            outcome.broken += (await scene.play(Day.ORDERS, [])).broken
        finally:
            await scene.close()
        self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        verdicts = [Verdict(cell, True, outcome.broken) for cell in outcome.reached]
        verdicts += [Verdict(cell, False, outcome.broken) for cell in outcome.missed]
        self._verdicts += verdicts
        for verdict in verdicts:
            self._told(verdict)
