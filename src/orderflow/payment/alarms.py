"""What an operator of the payment service has to see to: refunds that the bank refuses for good."""

from __future__ import annotations

from collections.abc import Mapping

from orderflow.payment.store import COUNTED_MAX, Payments
from orderflow.runtime.definition import ServiceContext


async def alarms(context: ServiceContext) -> Mapping[str, str]:
    """A sentence for each alarm, by name; it changes only when the refunds do. Raises StoreUnavailableError."""
    count, orders = await Payments(context.database).refused_refunds()
    if not count:
        return {}
    refunds = f"{count}{' or more' if count >= COUNTED_MAX else ''} refund{'' if count == 1 else 's'}"
    named = ", ".join(map(str, orders)) + (", ..." if count > len(orders) else "")
    sentence = (
        f"{refunds} refused by the bank for good (order {named}): see them with "
        "`orderflow payment list --state refund_refused`, and settle each with `orderflow payment settle`"
    )
    return {"refunds": sentence}
