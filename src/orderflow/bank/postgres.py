"""The simulated bank's book in a database of its own, written in groups."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from orderflow.bank import BankFailedError, BankRefund, BankUnavailableError, Charge, Statement
from orderflow.core.crash_points import Point, reached
from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.schema import MigrationSequence
from orderflow.core.postgres.sessions import STATEMENT_TIMEOUT_MS, Connections, TransactionPoolingError
from orderflow.core.store import DataRefusedError, SchemaBehindError, StoreUnavailableError

PACKAGE = "orderflow.bank"
GROUP_MAX = 500
CONNECTIONS_MAX = 4
PATIENCE_S = 5.0

Entry = TypeVar("Entry")


def bank_migrations() -> MigrationSequence:
    """The tables of the bank's database."""
    return MigrationSequence.from_package("bank", PACKAGE)


class PostgresBook:
    """The port `BankBook`. Calls that come while a group is being committed make up the next group."""

    def __init__(self, url: str, *, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS) -> None:
        self._queries = load_queries(PACKAGE)
        self._connections = Connections(
            url,
            application_name="orderflow bank",
            limit=CONNECTIONS_MAX,
            patience_s=PATIENCE_S,
            lookups_only=True,
            statement_timeout_ms=statement_timeout_ms,
        )
        self._charges = CommitGroup(self._record_charges)
        self._refunds = CommitGroup(self._record_refunds)

    async def look(self) -> None:
        """Raises TransactionPoolingError: its address can never work. That the bank is away is no matter here."""
        try:
            await self._connections.fetch(self._queries["look"])
        except TransactionPoolingError:
            raise
        except (StoreUnavailableError, SchemaBehindError):
            return

    async def charge(self, charge: Charge) -> Charge:
        found = await self._charges.add(charge.key, charge)
        if found is None:
            raise BankFailedError(f"the book has lost {charge.key}")
        return found

    async def refund(self, refund: BankRefund) -> BankRefund | None:
        return await self._refunds.add(refund.key, refund)

    async def method_of(self, charge: str) -> str | None:
        rows = await self._ask("find_charges", [charge])
        return rows[0]["payment_method"] if rows else None

    async def statement(self, keys: Sequence[str]) -> Statement:
        charges = await self._ask("find_charges", list(keys))
        refunds = await self._ask("find_refunds", list(keys))
        return [_charge(row) for row in charges], [_refund(row) for row in refunds]

    async def count_call(self, key: str) -> int:
        rows = await self._ask("count_call", key)
        calls: int = rows[0]["calls"]
        return calls

    async def close(self) -> None:
        """Wait for the groups under way, then close the connections."""
        try:
            await self._charges.close()
            await self._refunds.close()
        finally:
            await self._connections.close()

    async def _record_charges(self, charges: Mapping[str, Charge]) -> Mapping[str, Charge]:
        values = [
            (c.key, c.order_id, c.amount, c.currency, c.payment_method, c.decline_code, c.reference)
            for c in charges.values()
        ]
        added = await self._ask("record_charges", *map(list, zip(*values, strict=True)))
        if len(added) == len(charges):
            return charges
        rows = await self._ask("find_charges", list(charges))
        return {row["key"]: _charge(row) for row in rows}

    async def _record_refunds(self, refunds: Mapping[str, BankRefund]) -> Mapping[str, BankRefund]:
        values = [(r.key, r.charge, r.order_id, r.amount, r.currency, r.reference) for r in refunds.values()]
        added = await self._ask("record_refunds", *map(list, zip(*values, strict=True)))
        if len(added) == len(refunds):
            return refunds
        rows = await self._ask("find_refunds", list(refunds))
        return {row["key"]: _refund(row) for row in rows}

    async def _ask(self, query: str, *arguments: object) -> Sequence[Any]:
        """One statement is one transaction. Only what fails before it is sent is known not to be done."""
        try:
            connection = await self._connections.acquire()
        except StoreUnavailableError as error:
            raise BankUnavailableError(str(error)) from error
        try:
            return await self._connections.fetch_on(connection, self._queries[query], *arguments)
        except (StoreUnavailableError, DataRefusedError) as error:
            raise BankFailedError(str(error)) from error


def _charge(row: Any) -> Charge:
    return Charge(**{**row, "order_id": str(row["order_id"])})


def _refund(row: Any) -> BankRefund:
    return BankRefund(**{**row, "order_id": str(row["order_id"])})


class CommitGroup(Generic[Entry]):
    """Gathers entries while the group before is being written. `write` returns what stands under their keys."""

    def __init__(self, write: Callable[[Mapping[str, Entry]], Awaitable[Mapping[str, Entry]]]) -> None:
        self._write = write
        self._waiting: list[tuple[str, Entry, asyncio.Future[Entry | None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def add(self, key: str, entry: Entry) -> Entry | None:
        """What stands under `key` after the commit. Who is cancelled here has still asked."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Entry | None] = loop.create_future()
        self._waiting.append((key, entry, future))
        if self._writer is None:
            self._writer = loop.create_task(self._run())
        return await future

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer

    async def _run(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:GROUP_MAX], self._waiting[GROUP_MAX:]
                await self._commit(group)
        finally:
            self._writer = None

    async def _commit(self, group: Sequence[tuple[str, Entry, asyncio.Future[Entry | None]]]) -> None:
        entries = {key: entry for key, entry, _ in group}
        try:
            found = await self._write(entries)
        except (BankUnavailableError, BankFailedError) as error:
            self._fail(group, [type(error)(str(error)) for _ in group])
        except Exception as error:  # noqa: BLE001  # a defect: those who asked must not wait for ever
            self._fail(group, [error for _ in group])
        else:
            reached(Point.INTENT_BOOKED)
            for key, _, future in group:
                if not future.done():
                    future.set_result(found.get(key))

    @staticmethod
    def _fail(group: Sequence[tuple[str, Entry, asyncio.Future[Entry | None]]], errors: Sequence[Exception]) -> None:
        for (_, _, future), error in zip(group, errors, strict=True):
            if not future.done():
                future.set_exception(error)
