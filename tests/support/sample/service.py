"""The counting service, from its messages to its HTTP operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec

from orderflow import (
    Catalogue,
    Command,
    Decision,
    Event,
    Permission,
    Ref,
    RefusedError,
    Role,
    Row,
    Rows,
    Service,
    ServiceContext,
    Subscription,
    handlers,
    handles,
)
from orderflow.http import Operation, Parameter, ProblemError, Reply, Request, Response

TOPIC = "counts"


class Add(Command, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "sample.Add"
    PERMISSION: ClassVar[Permission] = Permission(frozenset(Role), anonymous=True, everybody=True)

    name: str
    amount: int

    @property
    def key(self) -> str:
        return self.name


class Added(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "sample.Added"
    TOPIC: ClassVar[str] = TOPIC

    name: str
    value: int

    @property
    def key(self) -> str:
        return self.name


class Counter(Row, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "counters"
    KEY: ClassVar[str] = "name"

    name: str
    value: int


class Amount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to add."""

    amount: Annotated[int, msgspec.Meta(ge=-100, le=2000)]
    note: Annotated[str, msgspec.Meta(max_length=20)] | None = None


class Count(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    value: int


@handles(Add, touches=lambda command: [Ref(Counter, command.name)])
def add(rows: Rows, command: Add) -> Decision:
    if command.amount == 0:
        raise RefusedError("nothing to add")
    if command.amount < 0:
        raise ValueError("a counter does not count down")
    before = rows.get(Counter, command.name)
    counter = Counter(name=command.name, value=(before.value if before else 0) + command.amount)
    return Decision(rows=[counter], events=[Added(name=counter.name, value=counter.value)], answer=counter.value)


@handles(Added)
def added(_rows: Rows, _event: Added) -> Decision:
    return Decision()


NAME = Parameter(name="name", where="path", description="The counter")


def operations(context: ServiceContext) -> Sequence[Operation]:
    async def put(request: Request[Amount]) -> Reply:
        command = Add(name=request.values["name"], amount=request.body.amount)
        value = await context.commands.submit(command, request.caller, traceparent=request.traceparent)
        return Reply(201, Count(name=command.name, value=value))

    async def show(request: Request[None]) -> Reply:
        rows = await context.database.fetch("SELECT value FROM counters WHERE name = $1", request.values["name"])
        if not rows:
            raise ProblemError(404, "there is no such counter")
        return Reply(body=Count(name=request.values["name"], value=rows[0]["value"]))

    async def until_stopping(_: Request[None]) -> Reply:
        await context.stopping.wait()
        return Reply(204)

    counted = Response(status=201, description="The new value", type=Count)
    return (
        Operation(
            method="POST",
            path="/counters/{name}",
            summary="Add",
            handler=put,
            request=Amount,
            parameters=(NAME,),
            responses=[counted],
            permission=Add.PERMISSION,
        ),
        Operation(
            method="GET",
            path="/counters/{name}",
            summary="Show",
            handler=show,
            parameters=(NAME,),
            responses=[Response(status=200, description="Its value", type=Count)],
        ),
        Operation(
            method="GET",
            path="/until-stopping",
            summary="Wait for the end",
            handler=until_stopping,
            responses=[Response(status=204, description="It ends")],
        ),
    )


SERVICE = Service(
    name="order",
    title="Sample",
    catalogue=Catalogue([Added]),
    subscriptions=(Subscription("sample", (TOPIC,)),),
    publishes=(TOPIC,),
    handlers=handlers(add, added),
    tables=(Counter,),
    sql="tests.support.sample",
    api=operations,
)
