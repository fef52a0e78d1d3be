"""Unfinished orders are counted once a second: it must cost by how many there are, not by how many there were."""

from __future__ import annotations

import asyncpg

from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres.tables import tables_of
from orderflow.services.order.service import SERVICE as ORDER
from orderflow.services.order.storage import Orders
from tests.support.postgres import PostgresServer
from tests.support.saga import databases

ORDERS = 3000

PLACE = """
INSERT INTO orders (order_id, customer_id, currency, items, total, payment_method, status, version, event)
SELECT gen_random_uuid(), 'c', 'EUR', '[{}]', 1, 'm', 'PENDING', 1, 'OrderPlaced' FROM generate_series(1, $1)
"""
PAY = "UPDATE orders SET status = 'PAID', version = 2, event = 'PaymentSucceeded'"
COMPLETE = """
UPDATE orders SET status = 'COMPLETED', version = 3, event = 'StockReserved'
WHERE order_id NOT IN (SELECT order_id FROM orders LIMIT 2)
"""


async def entries_read(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    read: int = await connection.fetchval(
        "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'orders_unfinished'"
    )
    return read


async def test_a_count_does_not_go_through_the_finished_again_and_again(postgres: PostgresServer) -> None:
    with databases(postgres, "order") as made:
        await made.migrate()
        store = await PostgresStore.connect(made.urls["order"], tables=tables_of(ORDER.tables), reads_max=1)
        connection = await asyncpg.connect(made.urls["order"])
        try:
            await connection.execute("ALTER TABLE orders SET (autovacuum_enabled = off)")
            await connection.execute(PLACE, ORDERS)
            await connection.execute(PAY)
            await connection.execute(COMPLETE)
            read: list[int] = []
            for _ in range(3):
                assert await Orders(store).count_unfinished(ORDERS) == 2
                await store.fetch("SELECT pg_stat_force_next_flush()")
                read.append(await entries_read(connection))
            assert read[2] - read[1] < 100, f"entries read after each count: {read}"
        finally:
            await connection.close()
            await store.close()
