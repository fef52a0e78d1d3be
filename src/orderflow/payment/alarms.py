"""What an operator of the payment service has to see to: refunds that the bank refuses, and its silence."""

from __future__ import annotations

from collections.abc import Mapping

from orderflow.payment.store import COUNTED_MAX, Payments
from orderflow.runtime.definition import ServiceContext

SILENT_S = 600.0
"""So long the bank may leave a charge or a refund without an answer before that is an alarm. It is asked again until
then, and after it too.
"""


async def alarms(context: ServiceContext) -> Mapping[str, str]:
    """A sentence for each alarm, by name; it changes only when the count does. Raises StoreUnavailableError."""
    payments = Payments(context.database)
    found: dict[str, str] = {}
    count, orders = await payments.refused_refunds()
    if count:
        named = ", ".join(map(str, orders)) + (", ..." if count > len(orders) else "")
        found["refunds"] = (
            f"{_counted(count, 'refund')} refused by the bank for good (order {named}): see them with "
            "`orderflow payment list --state refund_refused`, and settle each with `orderflow payment settle`"
        )
    unanswered = await payments.unanswered(SILENT_S)
    if unanswered:
        what = " and ".join(_counted(count, kind) for kind, count in unanswered.items())
        found["bank"] = (
            f"{what} without an answer of the bank for more than {SILENT_S / 60:g} min: it is asked again and again; "
            "see them with `orderflow payment list --state unknown` (or charging, refund_due)"
        )
    return found


def _counted(count: int, what: str) -> str:
    more = " or more" if count >= COUNTED_MAX else ""
    return f"{count}{more} {what}{'' if count == 1 else 's'}"
