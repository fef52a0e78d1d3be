"""Keeps the parts of a run alive, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psutil

from orderflow.local.errors import LocalError
from orderflow.local.exits import watch
from orderflow.local.leftovers import ProcessMark
from orderflow.local.reporter import Reporter
from orderflow.local.state import Running
from orderflow.local.units import Unit

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 10.0
SETTLED_AFTER_S = 30.0


def restart_delay_s(failures: int) -> float:
    """Seconds before the next start after `failures` short lives in a row: none, then 0.5 doubling up to 10."""
    if failures <= 1:
        return 0.0
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** (failures - 2))


@dataclass(slots=True, eq=False)
class Kept:
    """A unit under supervision."""

    unit: Unit
    mark: ProcessMark | None = None
    restarts: int = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def as_running(self) -> Running | None:
        if self.mark is None:
            return None
        unit = self.unit
        return Running(unit.name, unit.kind, self.mark.pid, self.mark.started, unit.address, self.restarts)


class Supervisor:
    """Starts units, restarts those that die, says so. `changed` is called when a process came or went."""

    def __init__(self, reporter: Reporter, changed: Callable[[], None]) -> None:
        self._reporter = reporter
        self._changed = changed
        self._kept: list[Kept] = []
        self._stopping = False

    def running(self) -> tuple[Running, ...]:
        """What runs now, in the order of starting."""
        found = (kept.as_running() for kept in self._kept)
        return tuple(running for running in found if running is not None)

    async def start(self, *units: Unit) -> None:
        """Start units side by side and keep them. Raises LocalError when one cannot be started."""
        fresh = [Kept(unit) for unit in units]
        self._kept.extend(fresh)
        async with asyncio.TaskGroup() as group:
            for kept in fresh:
                group.create_task(self._first_start(kept))

    async def stop(self) -> None:
        """End everything: services first and side by side, then what carries them, last started first."""
        self._stopping = True
        watchers = [kept.task for kept in self._kept if kept.task is not None]
        for task in watchers:
            task.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        services = [kept for kept in self._kept if kept.unit.kind == "service"]
        await asyncio.gather(*(self._stop_one(kept) for kept in services))
        for kept in reversed(self._kept):
            if kept not in services:
                await self._stop_one(kept)

    def kill(self) -> None:
        """End everything at once, without asking."""
        self._stopping = True
        for kept in self._kept:
            if kept.unit.process is not None:
                with contextlib.suppress(OSError):
                    kept.unit.process.kill()

    async def _first_start(self, kept: Kept) -> None:
        await kept.unit.start()
        self._note_process(kept)
        kept.task = asyncio.create_task(self._keep(kept), name=f"keep {kept.unit.name}")

    async def _stop_one(self, kept: Kept) -> None:
        await kept.unit.stop()
        kept.mark = None
        self._changed()

    async def _keep(self, kept: Kept) -> None:
        failures = 0
        while kept.unit.process is not None:
            started = time.monotonic()
            status = await watch(kept.unit.process)
            lived_s = time.monotonic() - started
            kept.mark = None
            self._changed()
            failures = 1 if lived_s >= SETTLED_AFTER_S else failures + 1
            self._reporter.note(f"{kept.unit.name} {_how_it_ended(status)}; starting it again")
            await self._restart(kept, failures)

    async def _restart(self, kept: Kept, failures: int) -> None:
        """Tries until it runs."""
        while not self._stopping:
            await asyncio.sleep(restart_delay_s(failures))
            try:
                await kept.unit.start()
            except LocalError as error:
                failures += 1
                self._reporter.note(f"{error}; next try in {restart_delay_s(failures):g} s")
                continue
            kept.restarts += 1
            self._note_process(kept)
            self._reporter.note(f"{kept.unit.name} is back at {kept.unit.address}")
            return

    def _note_process(self, kept: Kept) -> None:
        process = kept.unit.process
        with contextlib.suppress(psutil.NoSuchProcess):
            kept.mark = None if process is None else ProcessMark.of(process.pid)
        self._changed()


def _how_it_ended(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"


def first_local_error(error: BaseExceptionGroup[BaseException]) -> BaseException:
    """The sentence among what a group of starts raised; the first error when there is none."""
    leaves = list(_leaves(error))
    return next((leaf for leaf in leaves if isinstance(leaf, LocalError)), leaves[0])


def _leaves(error: BaseException) -> Sequence[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
