"""DBOS: the saga as one durable workflow of six steps, in one process."""

import os
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import shop
from dbos import DBOS, SetWorkflowID
from fastapi import FastAPI
from shop import Order

pools = {}
DATABASES = ("order", "payment", "inventory", "notification", "bank")


@asynccontextmanager
async def lifespan(app: FastAPI):
    for name in DATABASES:
        pools[name] = await shop.connect(name)
    DBOS.launch()
    yield
    DBOS.destroy()


app = FastAPI(lifespan=lifespan)
DBOS(config={"name": "peer", "system_database_url": f"{os.environ['SERVER']}/workflows", "log_level": "WARNING"})


@DBOS.step()
async def place(order_id: str, order: dict) -> None:
    await shop.place(pools["order"], UUID(order_id), Order(**order))


@DBOS.step()
async def charge(order_id: str, order: dict) -> None:
    await shop.charge(pools["bank"], pools["payment"], UUID(order_id), Order(**order).total)


@DBOS.step()
async def advance(order_id: str, status: str, before: str) -> None:
    await shop.advance(pools["order"], UUID(order_id), status, before)


@DBOS.step()
async def reserve(order_id: str, order: dict) -> None:
    item = Order(**order).items[0]
    await shop.reserve(pools["inventory"], UUID(order_id), item.sku, item.quantity)


@DBOS.step()
async def notify(order_id: str) -> None:
    await shop.notify(pools["notification"], UUID(order_id))


@DBOS.workflow()
async def saga(order_id: str, order: dict) -> str:
    await place(order_id, order)
    await charge(order_id, order)
    await advance(order_id, "PAID", "PENDING")
    await reserve(order_id, order)
    await advance(order_id, "COMPLETED", "PAID")
    await notify(order_id)
    return "COMPLETED"


under_way = {}


@app.post("/orders", status_code=201)
async def post(order: Order) -> dict[str, str]:
    order_id = str(uuid4())
    with SetWorkflowID(order_id):
        under_way[order_id] = await DBOS.start_workflow_async(saga, order_id, order.model_dump())
    return {"id": order_id, "status": "PENDING"}


@app.get("/orders/{order_id}")
async def show(order_id: str, wait: int = 0) -> dict[str, str]:
    if wait and order_id in under_way:
        return {"id": order_id, "status": await under_way.pop(order_id).get_result()}
    status = await pools["order"].fetchval("SELECT status FROM orders WHERE order_id = $1", UUID(order_id))
    return {"id": order_id, "status": status}
