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
from orderflow.local.state import Down, Running
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
    """A unit under supervision. `why` it does not run is said where it has no `mark`."""

    unit: Unit
    mark: ProcessMark | None = None
    restarts: int = 0
    why: str = "it has not started yet"
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def as_running(self) -> Running | None:
        if self.mark is None:
            return None
        unit = self.unit
        return Running(unit.name, unit.kind, self.mark.pid, self.mark.started, unit.address, self.restarts)

    def as_down(self) -> Down | None:
        return None if self.mark is not None else Down(self.unit.name, self.unit.kind, self.why, self.restarts)


class Supervisor:
    """Starts units, restarts those that die, says so.

    `changed` is called when a process came or went. Neither it nor the reporter may raise or wait.
    """

    def __init__(self, reporter: Reporter, changed: Callable[[], None]) -> None:
        self._reporter = reporter
        self._changed = changed
        self._kept: list[Kept] = []
        self._stopping = False

    def running(self) -> tuple[Running, ...]:
        """What runs now, in the order of starting."""
        found = (kept.as_running() for kept in self._kept)
        return tuple(running for running in found if running is not None)

    def down(self) -> tuple[Down, ...]:
        """What should run and does not."""
        found = (kept.as_down() for kept in self._kept)
        return tuple(down for down in found if down is not None)

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
        try:
            await kept.unit.start()
        except OSError as error:
            raise LocalError(f"cannot start {kept.unit.name}: {_words(error)}") from error
        self._note_process(kept)
        kept.task = asyncio.create_task(self._keep(kept), name=f"keep {kept.unit.name}")

    async def _stop_one(self, kept: Kept) -> None:
        try:
            await kept.unit.stop()
        except (OSError, LocalError) as error:
            self._reporter.note(f"{kept.unit.name} could not be stopped in order: {_words(error)}")
        self._note_end(kept, "it was stopped")

    async def _keep(self, kept: Kept) -> None:
        failures = 0
        while kept.unit.process is not None:
            started = time.monotonic()
            status = await watch(kept.unit.process)
            lived_s = time.monotonic() - started
            self._note_end(kept, f"it {_how_it_ended(status)}")
            failures = 1 if lived_s >= SETTLED_AFTER_S else failures + 1
            self._reporter.note(f"{kept.unit.name} {_how_it_ended(status)}; starting it again")
            await self._restart(kept, failures)

    async def _restart(self, kept: Kept, failures: int) -> None:
        """Tries until it runs, whatever comes in between: a full disk gives errors that nobody has foreseen."""
        while not self._stopping:
            await asyncio.sleep(restart_delay_s(failures))
            try:
                await kept.unit.start()
            except Exception as error:  # noqa: BLE001  (what is not tried again stays down for ever)
                failures += 1
                self._note_end(kept, _words(error))
                # What has started half way must not stand in the way of the next start.
                with contextlib.suppress(OSError, LocalError):
                    await kept.unit.stop()
                self._reporter.note(f"{_words(error)}; next try in {restart_delay_s(failures):g} s")
                continue
            kept.restarts += 1
            self._note_process(kept)
            self._reporter.note(f"{kept.unit.name} is back at {kept.unit.address}")
            return

    def _note_process(self, kept: Kept) -> None:
        process = kept.unit.process
        with contextlib.suppress(psutil.Error):
            kept.mark = None if process is None else ProcessMark.of(process.pid)
        self._changed()

    def _note_end(self, kept: Kept, why: str) -> None:
        kept.mark, kept.why = None, why
        self._changed()


def _how_it_ended(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"


def _words(error: Exception) -> str:
    """One sentence, of an error that was made for people or of any other."""
    if isinstance(error, LocalError):
        return str(error)
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    return f"{said or type(error).__name__}{where}"


def first_local_error(error: BaseExceptionGroup[BaseException]) -> BaseException:
    """The sentence among what a group of starts raised; the first error when there is none."""
    leaves = list(_leaves(error))
    return next((leaf for leaf in leaves if isinstance(leaf, LocalError)), leaves[0])


def _leaves(error: BaseException) -> Sequence[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
