"""FastAPI and asyncpg: four services that call each other over HTTP, one transaction a request."""

import os
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import httpx
import shop
from fastapi import FastAPI
from shop import Order

SERVICE = os.environ["SERVICE"]


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.pool = await shop.connect(SERVICE)
    app.state.bank = await shop.connect("bank") if SERVICE == "payment" else None
    async with httpx.AsyncClient(timeout=30) as http:
        app.state.http = http
        yield


app = FastAPI(lifespan=lifespan)


async def call(service: str, order_id: UUID, order: Order) -> None:
    url = f"http://127.0.0.1:{os.environ[f'PORT_{service}']}/{order_id}"
    answer = await app.state.http.post(
        url, content=order.model_dump_json(), headers={"content-type": "application/json"}
    )
    answer.raise_for_status()


if SERVICE == "order":

    @app.post("/orders", status_code=201)
    async def place(order: Order) -> dict[str, str]:
        order_id = uuid4()
        await shop.place(app.state.pool, order_id, order)
        await call("payment", order_id, order)
        await shop.advance(app.state.pool, order_id, "PAID", "PENDING")
        await call("inventory", order_id, order)
        await shop.advance(app.state.pool, order_id, "COMPLETED", "PAID")
        await call("notification", order_id, order)
        return {"id": str(order_id), "status": "COMPLETED"}

    @app.get("/orders/{order_id}")
    async def show(order_id: UUID, wait: int = 0) -> dict[str, str]:
        status = await app.state.pool.fetchval("SELECT status FROM orders WHERE order_id = $1", order_id)
        return {"id": str(order_id), "status": status}

else:

    @app.post("/{order_id}", status_code=204)
    async def step(order_id: UUID, order: Order) -> None:
        if SERVICE == "payment":
            await shop.charge(app.state.bank, app.state.pool, order_id, order.total)
        elif SERVICE == "inventory":
            item = order.items[0]
            await shop.reserve(app.state.pool, order_id, item.sku, item.quantity)
        else:
            await shop.notify(app.state.pool, order_id)
