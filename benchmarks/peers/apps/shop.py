"""What all peers do: the same saga, one transaction a step, each step safe to repeat by its natural key."""

import os
from uuid import UUID

import asyncpg
from pydantic import BaseModel

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    order_id uuid PRIMARY KEY, customer_id text NOT NULL, items text NOT NULL, total bigint NOT NULL,
    status text NOT NULL CHECK (status IN ('PENDING', 'PAID', 'COMPLETED'))
);
CREATE TABLE IF NOT EXISTS payments (order_id uuid PRIMARY KEY, amount bigint NOT NULL);
CREATE TABLE IF NOT EXISTS bank_charges (order_id uuid PRIMARY KEY, amount bigint NOT NULL);
CREATE TABLE IF NOT EXISTS stock (sku text PRIMARY KEY, on_hand bigint NOT NULL CHECK (on_hand >= 0));
CREATE TABLE IF NOT EXISTS reservations (order_id uuid PRIMARY KEY, sku text NOT NULL, quantity bigint NOT NULL);
CREATE TABLE IF NOT EXISTS notifications (order_id uuid PRIMARY KEY, text text NOT NULL);
"""


class Item(BaseModel):
    sku: str
    quantity: int
    unit_price: int


class Order(BaseModel):
    customer_id: str
    currency: str
    payment_method: str
    items: list[Item]

    @property
    def total(self) -> int:
        return sum(item.quantity * item.unit_price for item in self.items)


async def connect(database: str) -> asyncpg.Pool:
    """A pool on a database of its own, with its tables."""
    pool = await asyncpg.create_pool(f"{os.environ['SERVER']}/{database}", min_size=2, max_size=16)
    await pool.execute(SCHEMA)
    return pool


async def place(pool: asyncpg.Pool, order_id: UUID, order: Order) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO orders VALUES ($1, $2, $3, $4, 'PENDING') ON CONFLICT DO NOTHING",
            order_id,
            order.customer_id,
            order.model_dump_json(include={"items"}),
            order.total,
        )


async def advance(pool: asyncpg.Pool, order_id: UUID, status: str, *before: str) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "UPDATE orders SET status = $2 WHERE order_id = $1 AND status = ANY ($3)", order_id, status, before
        )


async def charge(bank: asyncpg.Pool, pool: asyncpg.Pool, order_id: UUID, total: int) -> None:
    """First the bank, whose charge has the order's id as its key, then our own book."""
    await bank.execute("INSERT INTO bank_charges VALUES ($1, $2) ON CONFLICT DO NOTHING", order_id, total)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("INSERT INTO payments VALUES ($1, $2) ON CONFLICT DO NOTHING", order_id, total)


async def reserve(pool: asyncpg.Pool, order_id: UUID, sku: str, quantity: int) -> None:
    async with pool.acquire() as connection, connection.transaction():
        fresh = await connection.fetchval(
            "INSERT INTO reservations VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING true",
            order_id,
            sku,
            quantity,
        )
        if fresh:
            await connection.execute(
                "INSERT INTO stock VALUES ($1, 1000000000) "
                "ON CONFLICT (sku) DO UPDATE SET on_hand = stock.on_hand - $2",
                sku,
                quantity,
            )


async def notify(pool: asyncpg.Pool, order_id: UUID) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO notifications VALUES ($1, 'Your order is complete.') ON CONFLICT DO NOTHING", order_id
        )
