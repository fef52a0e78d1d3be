"""All that operators ask of a service, in one list of operations."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orderflow.core.access import EVERYBODY, Role
from orderflow.core.operations.overruling import Overruling
from orderflow.core.operations.recovery import Recovery
from orderflow.core.service import Service
from orderflow.http.operation import Operation, Reply, Request, Response
from orderflow.http.operators.asking import route
from orderflow.http.operators.letters import DeadLetterOperations
from orderflow.http.operators.outages import Outages
from orderflow.http.operators.queues import Actions, ExpiredOperations, Queues, Republishing
from orderflow.http.operators.repairs import RepairOperations
from orderflow.http.operators.replays import Replays


class CallerShown(msgspec.Struct, frozen=True, kw_only=True):
    """The caller, according to the token it sent; `anonymous` and no role, if it sent none."""

    name: str
    roles: list[Role]
    shop: str | None = None


async def caller(request: Request[None]) -> Reply:
    """Who you are here, and what you may do.

    According to the token you sent. The security documentation explains the roles.
    """
    who = request.caller
    return Reply(body=CallerShown(name=who.name, roles=sorted(who.roles), shop=who.shop))


_CALLER = route(
    "GET /ops/caller",
    caller,
    Response(200, "The caller", CallerShown, example={"name": "anna", "roles": ["operator"]}),
    permission=EVERYBODY,
)


def operator_operations(
    service: Service, recovery: Recovery, overruling: Overruling, queues: Queues
) -> Sequence[Operation]:
    """`/ops/…`."""
    return (
        *DeadLetterOperations(service, recovery).operations(),
        *Replays(recovery).operations(),
        *RepairOperations(recovery.repairs).operations(),
        *Outages(overruling).operations(),
        *Actions(recovery.store).operations(),
        *ExpiredOperations(service, recovery).operations(),
        *queues.operations(),
        *Republishing(recovery, queues.store).operations(),
        _CALLER,
    )
