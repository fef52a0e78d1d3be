"""`orderflow payment`: see the payment of an order, and settle a charge that the bank leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.session import Session, session_options
from orderflow.cli.values import order_id

if TYPE_CHECKING:
    from rich.console import RenderableType

OUTCOMES = ("charged", "not-charged")


@click.group()
def payment() -> None:
    """See the payment of an order, and settle a charge that the bank leaves open.

    \b
    orderflow payment show 01981c5e-7a40-7000-8000-0123456789ab
    orderflow payment settle 01981c5e-7a40-7000-8000-0123456789ab --as charged --yes --reason "it is booked"
    """


@payment.command()
@click.argument("order_id", type=order_id, metavar="ORDER_ID")
@session_options
def show(session: Session, order_id: str) -> None:
    """Show the payment of an order: status, what was captured and given back, the bank's references.

    \b
    orderflow payment show 01981c5e-7a40-7000-8000-0123456789ab
    orderflow payment show 01981c5e-7a40-7000-8000-0123456789ab --json | jq .status
    """
    with session.client("payment") as client:
        found = client.get(f"/payments/{order_id}")
    if session.out.as_json:
        session.out.document(found)
    else:
        session.out.show(*_lines(found))


@payment.command()
@click.argument("order_id", type=order_id, metavar="ORDER_ID")
@click.option("--as", "outcome", type=click.Choice(OUTCOMES), required=True, help="What became of the charge.")
@click.option("--reason", metavar="TEXT", required=True, help="How you know; it goes into the operators' log.")
@click.option("--yes", is_flag=True, help="Mean it: it moves money.")
@session_options
def settle(session: Session, order_id: str, outcome: str, reason: str, yes: bool) -> None:
    """Say what became of a charge that the bank leaves open (CHARGING or UNKNOWN); it is not asked any more.

    Ask the bank in another way first. As charged, the order goes on as paid; as not charged, it fails. Said
    twice, it is done once. An answer of the bank that still comes and says otherwise is a dead letter, and
    `orderflow audit` compares with the bank's book.

    \b
    orderflow payment settle 01981c5e-7a40-7000-8000-0123456789ab --as charged --yes --reason "it is booked"
    orderflow payment settle 01981c5e-7a40-7000-8000-0123456789ab --as not-charged --yes --reason "not booked"
    """
    from orderflow.cli.dlt.acting import act
    from orderflow.cli.errors import RefusedError
    from orderflow.cli.order_view import amount
    from orderflow.cli.output import text

    if not reason.strip():
        raise click.UsageError("A charge is settled on somebody's word, so say how you know: --reason TEXT")
    if not yes:
        raise RefusedError(
            f"This settles the charge of order {order_id} as {outcome}: it moves money. Mean it: --yes"
        )
    body = {"outcome": outcome, "reason": reason, "confirmed": yes}
    with session.client("payment") as client:
        settled = act(client, "POST", f"/payments/{order_id}/settlement", body)
    if session.out.as_json:
        session.out.document(settled)
        return
    done = "Settled" if settled["changed"] else "It was settled so before"
    captured = amount(settled["captured"], settled["currency"])
    session.out.show(text(f"{done}: the payment of order {order_id} is {settled['status']}, captured {captured}."))


def _lines(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    from orderflow.cli.order_view import amount
    from orderflow.cli.output import joined, text
    from orderflow.cli.times import moment

    currency = found["currency"]
    yield joined(text("Payment of order "), text(found["order_id"], "bold"), text(f"  {found['status']}"))
    yield text(f"{amount(found['amount'], currency)} by {found['payment_method']}, customer {found['customer_id']}")
    yield text(
        f"captured {amount(found['captured'], currency)}, given back {amount(found['refunded'], currency)}, "
        f"since {moment(found['changed_at'])}"
    )
    for name, meaning in (("reason", "because of"), ("charge_reference", "charge"), ("refund_reference", "refund")):
        if found.get(name):
            yield text(f"{meaning} {found[name]}")
    if found["status"] in ("CHARGING", "UNKNOWN"):
        yield text("Waits for the bank. What it leaves open, settle with: orderflow payment settle", "yellow")
