"""The payment service's tables, and the questions asked of them outside of decisions."""

from __future__ import annotations

from uuid import UUID

from orderflow.messaging.stores.postgres.queries import load_queries
from orderflow.messaging.stores.postgres.tables import Facts, Table
from orderflow.payment.rows import Payment
from orderflow.payment.views import PaymentView
from orderflow.runtime.definition import Database

PACKAGE = "orderflow.payment"
CHANGING = (
    "order_id",
    "status",
    "version",
    "event",
    "captured",
    "refunded",
    "reason",
    "charge_reference",
    "refund_reference",
)


def tables() -> tuple[Table | Facts, ...]:
    """How rows stand in the database."""
    queries = load_queries(PACKAGE)
    return (
        Table(
            Payment,
            load=queries["load_payments"],
            insert=queries["insert_payments"],
            update=queries["update_payments"],
            stepwise=True,
            changing=CHANGING,
        ),
    )


class Payments:
    """Read access to the payments. Raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = load_queries(PACKAGE)

    async def show(self, order_id: UUID) -> PaymentView | None:
        """The payment of an order, or None."""
        rows = await self._database.fetch(self._queries["show_payment"], order_id)
        return PaymentView.from_record(rows[0]) if rows else None
