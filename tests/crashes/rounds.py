"""A round: processes die at their points on a day of some kind, are started again, and the books are audited."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx2

from orderflow.audit.collect import audited
from orderflow.audit.live import audit
from orderflow.core.game_days.fault import Fault, FaultKind
from orderflow.core.postgres.faults import PostgresFaults
from orderflow.core.postgres.sessions import connect, leave
from orderflow.core.transport import Transport
from orderflow.runtime.wiring import connect_transport
from tests.crashes.cells import Cell, Day
from tests.crashes.installation import Installation, Worker
from tests.crashes.nursery import UPKEEP
from tests.e2e.shop import VISA, Shop
from tests.support.waiting import SLACK, eventually

DEATH_TIMEOUT_S = 60.0
REST_TIMEOUT_S = 30.0 * SLACK
SILENT_MS = 2_000
PLENTY, NONE = "PLENTY", "NONE"
DECLINED = "pm_card_chargeDeclined"
FAILS_TWICE = "pm_fails_twice"
MIX = ((PLENTY, VISA), (PLENTY, DECLINED), (NONE, VISA), (PLENTY, VISA))
POISONED = 2
"""How many events each service gives up: of two, a replay has something between its first and its last."""

STRUCK: Mapping[str, str] = {
    "order": "PaymentSucceeded",
    "payment": "OrderPlaced",
    "inventory": "PaymentSucceeded",
    "notification": "StockReserved",
}


@dataclass(slots=True)
class Outcome:
    """What came of a round: which cells were reached, and what is broken after it."""

    reached: list[Cell] = field(default_factory=list)
    missed: list[Cell] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


class Scene:
    """An installation, a shop that sells through it, and what an audit needs."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.shop = Shop(installation)
        self._transport: Transport | None = None

    async def open(self) -> None:
        await self.installation.prepare()
        for worker in self.installation.workers.values():
            await worker.start()
        await eventually(self._stocked, timeout_s=60)
        self._transport = await connect_transport(self.installation.settings())

    async def close(self) -> None:
        await self.shop.close()
        if self._transport is not None:
            await self._transport.close()
        await self.installation.remove()

    async def play(self, day: Day, cells: Sequence[Cell], times: int = 1) -> Outcome:
        """Each process dies when it has reached its point so many times."""
        workers = {cell: self.installation.workers[cell.service] for cell in cells}
        if day is Day.START:
            await self.shop.place_many(MIX)
        if day is Day.POISON:
            await self._poison([cell.service for cell in cells])
        if day is Day.UPKEEP:
            await self._age_outboxes([cell.service for cell in cells])
        await asyncio.gather(*(self._armed(worker, cell, times) for cell, worker in workers.items()))
        outcome = Outcome()
        try:
            await self._live(day, workers)
            await asyncio.gather(*(has_died(worker) for worker in workers.values()))
        except AssertionError as error:
            # What is waited for in vain is broken, too.
            outcome.broken.append(str(error))
        for cell, worker in workers.items():
            (outcome.reached if worker.died.is_set() else outcome.missed).append(cell)
        outcome.broken += await self._broken()
        return outcome

    async def _armed(self, worker: Worker, cell: Cell, times: int) -> None:
        await worker.kill()
        await worker.start(f"{cell.point}@{times}")

    async def _live(self, day: Day, workers: Mapping[Cell, Worker]) -> None:
        if day is Day.START:
            return
        mix = [*MIX, (PLENTY, FAILS_TWICE)] if day is Day.UNSURE else MIX
        placing = asyncio.create_task(self.shop.place_many(mix))
        if day is Day.DRAIN:
            await self._until_answering(workers)
            for worker in workers.values():
                worker.drain()
        if day is Day.POISON:
            await self._go_wrong([cell.service for cell in workers])
        await placing
        if day is Day.ORDERS:
            await self._restock(workers)
        if day is Day.REBALANCE:
            await self._rebalance(workers)
        if day is Day.UPKEEP:
            await asyncio.gather(*(self._emptied(cell.service, worker) for cell, worker in workers.items()))

    async def _restock(self, workers: Mapping[Cell, Worker]) -> None:
        """Once the others have died: what inventory is told is a command, too."""
        others = [worker for cell, worker in workers.items() if cell.service != "inventory"]
        await asyncio.gather(*(has_died(worker) for worker in others))
        await eventually(self._stocked, timeout_s=60, every_s=0.1)

    async def _stocked(self) -> bool:
        strange = [what for worker in self.installation.workers.values() for what in worker.strange]
        if strange:
            raise RuntimeError("; ".join(strange))
        try:
            await self.shop.stock(PLENTY, 1_000_000)
        except httpx2.TransportError:
            return False
        return True

    async def _until_answering(self, workers: Mapping[Cell, Worker]) -> None:
        for cell in workers:
            await eventually(lambda: self._asked("GET", cell.service, "/health/ready"), timeout_s=60, every_s=0.05)  # noqa: B023

    async def _rebalance(self, workers: Mapping[Cell, Worker]) -> None:
        seconds = [Worker(self.installation, f"{worker.name}-2", worker.service) for worker in workers.values()]
        try:
            for second in seconds:
                await second.start()
            placing = asyncio.create_task(self.shop.place_many(MIX))
            await asyncio.gather(*(has_died(worker) for worker in workers.values()), placing)
        finally:
            await asyncio.gather(*(second.kill() for second in seconds))

    async def _age_outboxes(self, services: Sequence[str]) -> None:
        """From here on upkeep is due every second, and it finds that new rows belong into another segment."""
        await self.installation.change(UPKEEP)
        for service in services:
            await self._ask(service, "UPDATE outbox_rotation SET since = since - interval '2 days'")

    async def _emptied(self, service: str, worker: Worker) -> None:
        """The process has died when it had turned to the next segment; the next one empties the old one."""
        await has_died(worker)
        old = "segment <> (SELECT segment FROM outbox_rotation)"
        await self._ask(service, f"UPDATE outbox SET created_at = created_at - interval '2 days' WHERE {old}")

        async def is_empty() -> bool:
            return not await self._ask(service, f"SELECT FROM outbox WHERE {old} LIMIT 1")

        await eventually(is_empty, timeout_s=60, every_s=0.2)

    async def _poison(self, services: Sequence[str]) -> None:
        for service in services:
            fault = Fault(
                event_type=STRUCK[service], field="customer_id", value=poisoned(service), error=FaultKind.PERMANENT
            )
            await self._faults(service, lambda faults: faults.add(fault))  # noqa: B023

    async def _go_wrong(self, services: Sequence[str]) -> None:
        """Events fail at each service until they are given up; then what made them fail goes: they are replayed."""
        for service in services:
            for _ in range(POISONED):
                await self.shop.place(PLENTY, customer=poisoned(service))
        for service in services:
            while len(await self._dead(service)) < POISONED:
                # What fails alike is in doubt until another of its type succeeds.
                await self.shop.place(PLENTY)
        for service in services:
            await self._faults(service, lambda faults: faults.clear(None))
            await eventually(lambda: self._is_well(service), timeout_s=60, every_s=0.1)  # noqa: B023
        await asyncio.gather(*(self._replayed(service) for service in services))

    async def _replayed(self, service: str) -> None:
        """One replay, or those that it takes when the answer to one was lost."""

        async def done() -> bool:
            if not await self._dead(service):
                found = await self._asked("GET", service, "/ops/replays")
                return found is not None and all(each["state"] == "done" for each in found)
            running = await self._asked("GET", service, "/ops/replays") or []
            if not any(each["state"] == "running" for each in running):
                wanted = {"filter": {}, "reason": "mended", "confirmed": True, "plan": {"failing_share_max": 1}}
                await self._asked("POST", service, "/ops/replays", json=wanted)
            return False

        await eventually(done, timeout_s=60, every_s=0.1)

    async def _dead(self, service: str) -> list[Any]:
        found = await eventually(
            lambda: self._asked("GET", service, "/ops/dead-letters?state=dead"), timeout_s=60, every_s=0.1
        )
        letters: list[Any] = found["dead_letters"]
        return letters

    async def _is_well(self, service: str) -> bool:
        """No process that lives applies a fault any more."""
        revision = (await self._faults(service, lambda faults: faults.current())).revision
        readers = await self._faults(service, lambda faults: faults.readers(SILENT_MS))
        return bool(readers) and all(reader.revision >= revision for reader in readers)

    async def _faults(self, service: str, ask: Any) -> Any:
        return await ask(PostgresFaults(partial(self._ask, service)))

    async def _ask(self, service: str, statement: str, *arguments: object) -> Any:
        connection = await connect(self.installation.urls[service], application_name="tests")
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await leave(connection)

    async def _asked(self, method: str, service: str, path: str, **request: Any) -> Any:
        """The answer, or None while there is none."""
        headers = {"x-orderflow-operator": "tests"}
        try:
            answer = await self.shop.raw(method, service, path, headers=headers, **request)
        except httpx2.TransportError:
            return None
        return answer.json() if answer.is_success else None

    async def _broken(self) -> list[str]:
        """What the audit finds once nothing is under way, and whatever else is not as it should be."""
        assert self._transport is not None
        urls = {name: self.installation.urls[name] for name in audited()}
        report = await audit(urls, self._transport, wait_s=REST_TIMEOUT_S, accepted=self.shop.accepted)
        broken = [str(finding) for finding in report.findings]
        for worker in self.installation.workers.values():
            broken += worker.strange
            worker.strange = []
        if not report.at_rest:
            broken.append(f"something is still under way after {REST_TIMEOUT_S:g} s")
        if report.stuck or any(report.waiting.values()):
            broken.append(f"events wait, and {report.stuck} orders are stuck: {dict(report.waiting)}")
        if report.orders < len(self.shop.accepted):
            broken.append(f"{len(self.shop.accepted)} orders were accepted, {report.orders} are stored")
        return broken


async def has_died(worker: Worker) -> bool:
    """Whether the process has died at its point, or does in time."""
    try:
        return bool(await eventually(worker.died.is_set, timeout_s=DEATH_TIMEOUT_S))
    except AssertionError:
        return False


def poisoned(service: str) -> str:
    """The customer whose orders fail there."""
    return f"poison-{service}"
