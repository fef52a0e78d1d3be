"""`/ops/expired`: records that the log dropped before a consumer had read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from orderflow.messaging.decision import Service
from orderflow.messaging.recovery.port import RecoveryStore
from orderflow.runtime.operation import Operation, Parameter, Reply, Request, Response
from orderflow.runtime.operators.asking import NOT_THERE, TAG, Text, act_of, operator
from orderflow.runtime.operators.examples import EXPIRED, REASON
from orderflow.runtime.problems import ProblemError


class ExpiredRecords(msgspec.Struct, frozen=True, kw_only=True):
    """`count` records of one partition, from the offset `first_lost` on; `next_kept` is the first that is kept."""

    consumer: str
    topic: str
    partition: int
    first_lost: int
    next_kept: int
    count: int
    noticed_at: datetime | None


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was done about the loss, for the operators' log."""

    reason: Text


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """How many lost records somebody knows of now; they are no alarm any more."""

    consumer: str
    records: int


_CONSUMER = Parameter(name="consumer", where="path", description="The consumer", type=Text)
_ACKNOWLEDGED = Response(
    status=200,
    description="It is no alarm any more",
    type=Acknowledged,
    example=Acknowledged(consumer="payment", records=3),
)


class ExpiredOperations:
    """Answers from the service's own database."""

    def __init__(self, service: Service, store: RecoveryStore) -> None:
        self._consumers = {each.consumer for each in service.subscriptions}
        self._store = store

    async def listed(self, _: Request[None]) -> Reply:
        return Reply(
            body=[
                ExpiredRecords(
                    consumer=each.consumer,
                    topic=each.topic,
                    partition=each.partition,
                    first_lost=each.first_lost,
                    next_kept=each.next_kept,
                    count=each.count,
                    noticed_at=each.noticed_at,
                )
                for each in await self._store.expired()
            ]
        )

    async def acknowledge(self, request: Request[Acknowledgement]) -> Reply:
        consumer: str = request.values["consumer"]
        if consumer not in self._consumers:
            raise ProblemError(404, "this service has no such consumer")
        lost = await self._store.acknowledge_expired(consumer, act_of(request, reason=request.body.reason))
        return Reply(body=Acknowledged(consumer=consumer, records=lost))

    def operations(self) -> Sequence[Operation]:
        return (
            Operation(
                method="GET",
                path="/ops/expired",
                summary="Records that expired unread, and that nobody has acknowledged",
                description=(
                    "The log kept them no longer when their consumer came to them. What the outbox still has can be "
                    "republished."
                ),
                tag=TAG,
                handler=self.listed,
                responses=[
                    Response(status=200, description="By partition", type=list[ExpiredRecords], example=EXPIRED)
                ],
            ),
            Operation(
                method="POST",
                path="/ops/expired/{consumer}/acknowledge",
                summary="Say that the loss of a consumer is known and seen to",
                description=(
                    "The alarm of this consumer ends with it. Nothing is brought back by it: republish first."
                ),
                tag=TAG,
                handler=self.acknowledge,
                request=Acknowledgement,
                example=REASON,
                parameters=(_CONSUMER, operator),
                responses=[_ACKNOWLEDGED, NOT_THERE],
            ),
        )
