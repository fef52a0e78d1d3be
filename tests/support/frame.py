"""A frame on a real socket, without databases: one operation that echoes, one that fails."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec

from orderflow.core.access import EVERYBODY, Caller, InvalidTokenError
from orderflow.http.application import Application, ApplicationState
from orderflow.http.gate import Gate
from orderflow.http.openapi import docs_files
from orderflow.http.operation import Operation, Parameter, Reply, Request, Response
from orderflow.http.protocol import HttpLimits
from orderflow.http.server import HttpServer, listen


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sku: Annotated[str, msgspec.Meta(min_length=1, max_length=10)]
    quantity: Annotated[int, msgspec.Meta(ge=1, le=100)]


class Basket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    customer_id: Annotated[str, msgspec.Meta(min_length=1, max_length=70_000)]
    items: Annotated[tuple[Line, ...], msgspec.Meta(min_length=1, max_length=20)]


GOOD = {"customer_id": "c", "items": [{"sku": "a", "quantity": 1}]}
PATIENT = HttpLimits(head_s=60, body_s=60, linger_s=60, linger_bytes_max=2_000_000)
HASTY = HttpLimits(head_s=0.5, body_s=0.5, linger_s=1.0)


class Recorder:
    """What reached the handlers, and what was observed."""

    def __init__(self) -> None:
        self.baskets: list[Request[Basket]] = []
        self.observed: list[tuple[str, str, int]] = []
        self.port = 0
        self.connections: Callable[[], int] = int
        self.state = ApplicationState(rng=random.Random(1), observe=self._observe)

    def _observe(self, route: str, method: str, status: int, _seconds: float) -> None:
        self.observed.append((route, method, status))

    def operations(self) -> tuple[Operation, ...]:
        async def put(request: Request[Basket]) -> Reply:
            self.baskets.append(request)
            return Reply(201, {"customer_id": request.body.customer_id})

        async def fail(_: Request[None]) -> Reply:
            raise LookupError("a secret detail")

        key = Parameter(name="Idempotency-Key", where="header", description="A key")
        limit = Parameter(
            name="limit",
            where="query",
            description="Most",
            type=Annotated[int, msgspec.Meta(ge=1, le=5)],
            default=2,
        )
        done = [Response(status=201, description="Done")]
        return (
            Operation(
                method="POST",
                path="/baskets",
                summary="Put",
                handler=put,
                responses=done,
                request=Basket,
                parameters=(key, limit),
                permission=EVERYBODY,
            ),
            Operation(method="GET", path="/failing", summary="Fail", handler=fail, responses=done),
        )


def open_gate() -> Gate:
    """Lets in who calls this machine, or `x`, by name. Nobody has a token."""

    def verify(_: str) -> Caller:
        raise InvalidTokenError("nobody has a token here")

    return Gate("127.0.0.1", verify, time.monotonic, names=("x",))


@asynccontextmanager
async def serving(limits: HttpLimits = PATIENT) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    frame = Application(recorder.operations(), recorder.state, docs_files())
    server = HttpServer(lambda: frame, open_gate(), listen("127.0.0.1", 0), limits)
    server.start()
    recorder.port = server.port
    recorder.connections = lambda: server.connections
    try:
        yield recorder
    finally:
        await server.stop(1)
