"""Forgetting idempotency keys after their time, a few at a time, beside everything else."""

from __future__ import annotations

from orderflow.order.store import Orders
from orderflow.runtime.definition import ServiceContext

AT_ONCE = 1_000


async def forget_old_keys(context: ServiceContext) -> None:
    """Remove what is older than `idempotency_keep_s`. Raises StoreUnavailableError."""
    orders = Orders(context.database)
    purged = AT_ONCE
    while purged == AT_ONCE:
        purged = await orders.purge_keys(context.config.idempotency_keep_s, AT_ONCE)
