"""`/metrics`: what the process counted, and gauges that are read when they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from orderflow.messaging.recovery.port import OperatedStore
from orderflow.messaging.store import StoreUnavailableError
from orderflow.messaging.transport import TopicMissingError, TransportUnavailableError
from orderflow.observability.metrics import CONTENT_TYPE, Gauges, Metrics
from orderflow.runtime.operation import Operation, Reply, Request, Response
from orderflow.runtime.operators.queues import Queues

GAUGE_TIMEOUT_S = 2.0
_SCRAPED = "# TYPE orderflow_outbox_unsent gauge\norderflow_outbox_unsent 0\n"
Labels = tuple[tuple[str, str], ...]
Reader = Callable[[], Awaitable[dict[str, dict[Labels, float]]]]
_AWAY = (StoreUnavailableError, TransportUnavailableError, TopicMissingError, TimeoutError)


def gauge_readers(store: OperatedStore, queues: Queues) -> Sequence[Reader]:
    """Outbox, parked keys, lag, expired records. A reader whose source is away leaves its gauges out."""

    async def outbox() -> dict[str, dict[Labels, float]]:
        backlog = await store.backlog()
        return {
            "outbox_unsent": {(): backlog.unsent},
            "outbox_oldest_seconds": {(): backlog.oldest_ms / 1000},
        }

    async def parked() -> dict[str, dict[Labels, float]]:
        found = await store.recovery.summary()
        names = ("keys", "retrying", "dead", "held")
        return {
            f"parked_{name}": {(("consumer", each.consumer),): getattr(each, name) for each in found}
            for name in names
        }

    async def lag() -> dict[str, dict[Labels, float]]:
        return {
            "consumer_lag": {
                (
                    ("consumer", each.consumer),
                    ("topic", each.topic),
                    ("partition", str(each.partition)),
                ): each.lag
                for each in await queues.read_lag()
            }
        }

    async def expired() -> dict[str, dict[Labels, float]]:
        lost: dict[Labels, float] = {}
        for each in await store.recovery.expired():
            place = (("consumer", each.consumer), ("topic", each.topic), ("partition", str(each.partition)))
            lost[place] = lost.get(place, 0) + each.count
        return {"expired_records": lost}

    return (outbox, parked, lag, expired)


def metrics_operation(metrics: Metrics, readers: Callable[[], Sequence[Reader]]) -> Operation:
    """`readers` gives those that there are at the time of the scrape: none while the process starts."""

    async def scrape(_: Request[None]) -> Reply:
        found = await asyncio.gather(*(_read(reader) for reader in readers()))
        gauges: Gauges = {name: values for part in found for name, values in part.items()}
        return Reply(content=metrics.expose(gauges), media_type=CONTENT_TYPE)

    return Operation(
        method="GET",
        path="/metrics",
        summary="Metrics for Prometheus (text format 0.0.4)",
        description=(
            "What this process counted, and gauges that are read now. A gauge whose source is away is left out."
        ),
        tag="health",
        handler=scrape,
        responses=[
            Response(status=200, description="One scrape", type=str, media_type="text/plain", example=_SCRAPED)
        ],
    )


async def _read(reader: Reader) -> dict[str, dict[Labels, float]]:
    try:
        async with asyncio.timeout(GAUGE_TIMEOUT_S):
            return await reader()
    except _AWAY:
        return {}
