"""`orderflow order`: place orders, and see what became of them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import click

from orderflow.cli.errors import ExitCode, TimeUpError
from orderflow.cli.session import Session, session_options
from orderflow.cli.values import item, order_id

DEFAULT_ITEM = "SKU-ESPRESSO-CUP:1:1250"
STATUSES = ("PENDING", "PAID", "COMPLETED", "FAILED")


@click.group()
def order() -> None:
    """Place orders, and see what became of them.

    \b
    orderflow order place --wait 10
    orderflow order list --status FAILED --limit 5
    orderflow order show 01981c5e-7a40-7000-8000-0123456789ab
    orderflow order watch 01981c5e-7a40-7000-8000-0123456789ab
    """


@order.command()
@click.option("--customer", default="customer-1", show_default=True, help="Id of the customer at the shop.")
@click.option("--currency", default="EUR", show_default=True, help="Three letters of ISO 4217.")
@click.option(
    "--item",
    "items",
    type=item,
    metavar="SKU:QTY:PRICE",
    multiple=True,
    default=[DEFAULT_ITEM],
    show_default=True,
    help="What is ordered, price in minor units. Give it once for each article.",
)
@click.option("--payment-method", default="pm_card_visa", show_default=True, help="Name of a test card.")
@click.option("--idempotency-key", help="Text under which this order is placed one time only. [default: made up]")
@click.option("--wait", "wait_s", type=click.FloatRange(0, 3600), default=0.0, help="Wait for its end, in seconds.")
@session_options
def place(
    session: Session,
    customer: str,
    currency: str,
    items: tuple[dict[str, Any], ...],
    payment_method: str,
    idempotency_key: str | None,
    wait_s: float,
) -> None:
    """Place an order, and show it.

    With --wait the exit code says how it ended: 0 COMPLETED, 1 FAILED, 6 not ended in that time.

    \b
    orderflow order place --wait 10
    orderflow order place --item SKU-ESPRESSO-CUP:2:1250 --item SKU-MILK-JUG:1:3900 --currency EUR
    orderflow order place --payment-method pm_card_chargeDeclined --wait 10
    orderflow order place --idempotency-key cart-4711      (again: the same order)
    ID=$(orderflow order place --json | jq -r .id)
    """
    from orderflow.cli.placing import place_order

    wanted = {
        "customer_id": customer,
        "currency": currency,
        "items": list(items),
        "payment_method": payment_method,
    }
    with session.client("order") as client:
        placed, replayed = place_order(client, wanted, idempotency_key or str(uuid4()))
        if wait_s:
            from orderflow.cli.bars import heartbeat
            from orderflow.cli.follow import until_end

            with heartbeat(lambda: f"the order {placed['id']} is {placed['status']}", hidden=session.out.as_json):
                for seen in until_end(client, placed["id"], wait_s):
                    placed = seen or placed
    _show(session, {**placed, "replayed": replayed})
    if wait_s:
        _end_with(placed, wait_s)


@order.command()
@click.argument("order_id", type=order_id, metavar="ORDER_ID")
@session_options
def show(session: Session, order_id: str) -> None:
    """Show an order: status, items, history with causes, refund, and where it is stuck and why.

    \b
    orderflow order show 01981c5e-7a40-7000-8000-0123456789ab
    orderflow order show 01981c5e-7a40-7000-8000-0123456789ab --json | jq .status
    """
    with session.client("order") as client:
        _show(session, client.get(f"/orders/{order_id}"))


@order.command()
@click.argument("order_id", type=order_id, metavar="ORDER_ID")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.1), default=300.0, show_default=True, help="Seconds.")
@session_options
def watch(session: Session, order_id: str, timeout_s: float) -> None:
    """Follow an order live until it has ended, refund included.

    Exit code: 0 COMPLETED, 1 FAILED, 6 not ended in time. With --json a line for each step.

    \b
    orderflow order watch 01981c5e-7a40-7000-8000-0123456789ab
    orderflow order watch "$ID" --json --timeout 30
    """
    from orderflow.cli.watching import watch_order

    with session.client("order") as client:
        _end_with(watch_order(client, session.out, order_id, timeout_s), timeout_s)


@order.command(name="list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only orders that stand so.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many at most.")
@session_options
def list_orders(session: Session, status: str | None, limit: int) -> None:
    """List orders, newest first.

    \b
    orderflow order list
    orderflow order list --status PENDING --limit 100
    orderflow order list --status FAILED --json | jq -r '.orders[] | [.id, .reason] | @tsv'
    """
    from orderflow.cli.order_list import read_orders, table_of

    with session.client("order") as client:
        orders = read_orders(client, status, limit)
    if session.out.as_json:
        session.out.document({"orders": orders})
    else:
        session.out.show(table_of(orders) if orders else "No such orders.")


def _show(session: Session, found: dict[str, Any]) -> None:
    if session.out.as_json:
        session.out.document(found)
        return
    from orderflow.cli import order_view

    if found.get("replayed"):
        session.out.show("This key was used before: this is the order of that time.")
    session.out.show(*order_view.parts(found))


def _end_with(found: dict[str, Any], waited_s: float) -> None:
    """The exit code for what became of an order. Raises TimeUpError."""
    from orderflow.cli.follow import has_ended

    if not has_ended(found):
        owed = {"due": ", its refund is still due", "refused": ", its refund is refused by the bank"}
        due = owed.get(str(found.get("refund")), "")
        raise TimeUpError(
            f"The order {found['id']} is {found['status']} after {waited_s:g} s{due}. "
            f"Go on watching with: orderflow order watch {found['id']}"
        )
    if found["status"] == "FAILED":
        raise click.exceptions.Exit(ExitCode.FAILED)
