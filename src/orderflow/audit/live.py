"""An audit of databases that are in use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from orderflow.audit.collect import Collector
from orderflow.audit.databases import opened
from orderflow.audit.findings import Report
from orderflow.audit.promises import Auditor
from orderflow.audit.rest import Look, look, wait_for_rest
from orderflow.messaging.transport import Transport


async def audit(
    urls: Mapping[str, str],
    transport: Transport,
    *,
    wait_s: float,
    accepted: Iterable[str] = (),
    told: Callable[[Look], None] = lambda _: None,
) -> Report:
    """Check the five promises over the databases at `urls` (the services by name, and `bank`).

    Waits up to `wait_s` for rest; when there is none, `Report.at_rest` is False and only what holds at every
    moment is checked. `accepted` are ids of orders that were answered with 2xx. What is under way is `told`. Raises
    StoreUnavailableError, SchemaBehindError, TransportUnavailableError.
    """
    async with opened(urls) as databases:
        rest = await wait_for_rest(databases, transport, wait_s, told)
        async with databases.snapshots():
            # What has moved since is seen by a second look from within the snapshots.
            at_rest = rest.is_quiet and await look(databases, transport) == rest
            auditor = Auditor(at_rest=at_rest, accepted=accepted)
            collector = Collector(databases)
            async for order in collector.orders():
                auditor.take_order(order)
            for stock in await collector.stock():
                auditor.take_stock(stock)
            waiting = await collector.waiting()
        report = auditor.finish()
        report.waiting = waiting
        return report
