"""FastStream on Kafka: four services, one transaction a message, acknowledged after it; events follow the commit."""

import asyncio
import os
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import shop
from fastapi import FastAPI
from faststream import AckPolicy
from faststream.confluent.fastapi import KafkaRouter
from pydantic import BaseModel
from shop import Order

SERVICE = os.environ["SERVICE"]


class Said(BaseModel):
    order_id: UUID
    order: Order


router = KafkaRouter(os.environ["BROKER"], acks="all", enable_idempotence=True, logger=None)
finished: dict[UUID, asyncio.Event] = {}


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.pool = await shop.connect(SERVICE)
    app.state.bank = await shop.connect("bank") if SERVICE == "payment" else None
    yield


app = FastAPI(lifespan=lifespan)


def reads(topic: str):
    return router.subscriber(
        topic, group_id=SERVICE, auto_offset_reset="earliest", ack_policy=AckPolicy.NACK_ON_ERROR
    )


async def say(topic: str, said: Said) -> None:
    await router.broker.publish(said, topic, key=str(said.order_id).encode())


if SERVICE == "order":

    @app.post("/orders", status_code=201)
    async def place(order: Order) -> dict[str, str]:
        order_id = uuid4()
        finished[order_id] = asyncio.Event()
        await shop.place(app.state.pool, order_id, order)
        await say("order-events", Said(order_id=order_id, order=order))
        return {"id": str(order_id), "status": "PENDING"}

    @app.get("/orders/{order_id}")
    async def show(order_id: UUID, wait: int = 0) -> dict[str, str]:
        if wait and order_id in finished:
            await asyncio.wait_for(finished[order_id].wait(), wait)
        status = await app.state.pool.fetchval("SELECT status FROM orders WHERE order_id = $1", order_id)
        return {"id": str(order_id), "status": status}

    @reads("payment-status")
    async def paid(said: Said) -> None:
        await shop.advance(app.state.pool, said.order_id, "PAID", "PENDING")

    @reads("inventory-status")
    async def reserved(said: Said) -> None:
        await shop.advance(app.state.pool, said.order_id, "COMPLETED", "PENDING", "PAID")
        if said.order_id in finished:
            finished.pop(said.order_id).set()

elif SERVICE == "payment":

    @reads("order-events")
    async def placed(said: Said) -> None:
        await shop.charge(app.state.bank, app.state.pool, said.order_id, said.order.total)
        await say("payment-status", said)

elif SERVICE == "inventory":

    @reads("payment-status")
    async def to_reserve(said: Said) -> None:
        item = said.order.items[0]
        await shop.reserve(app.state.pool, said.order_id, item.sku, item.quantity)
        await say("inventory-status", said)

else:

    @reads("inventory-status")
    async def to_tell(said: Said) -> None:
        await shop.notify(app.state.pool, said.order_id)


app.include_router(router)
