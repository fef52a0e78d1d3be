"""`orderflow payment`: see payments, and settle what the bank leaves open or refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.acting import act
from orderflow.cli.errors import RequestRefusedError
from orderflow.cli.lazy import Group
from orderflow.cli.output import joined, text
from orderflow.cli.session import Session, session_options
from orderflow.cli.tables import ident, moment, table, when
from orderflow.cli.values import order_id

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

OUTCOMES = ("charged", "not-charged", "refunded", "ask-again")
STATES = ("charging", "unknown", "captured", "declined", "refund_due", "refund_refused", "refunded")
PAGE = 100
SAID = (
    ("reason", "because of"),
    ("charge_reference", "charge"),
    ("refund_reference", "refund"),
    ("refund_refusal", "refund refused by the bank:"),
)


@click.group(cls=Group)
def payment() -> None:
    """Show payments, and settle a charge or refund that the bank left open, or a refund that it refused.

    \b
    orderflow payment list --state refund_refused
    orderflow payment show 01981c5e-7a40-7000-8000-0123456789ab
    orderflow payment settle 01981c5e-7a40-7000-8000-0123456789ab --as charged --yes --reason "it is booked"
    """


@payment.command(name="list")
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="Only payments in this state.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Maximum number to show."
)
@session_options
def list_payments(session: Session, state: str | None, limit: int) -> None:
    """List payments, newest order first.

    REFUND_REFUSED is a refund that the bank refuses for good; it stays until someone settles it. CHARGING, UNKNOWN
    and REFUND_DUE wait for the bank, which is asked again automatically.

    \b
    orderflow payment list --state refund_refused
    orderflow payment list --state unknown --json | jq -r '.payments[].order_id'
    """
    with session.client("payment") as client:
        wanted = {"status": state.upper()} if state else {}
        payments = client.listed("/payments", "payments", wanted, page=PAGE, limit=limit)
    session.out.answer({"payments": payments}, _parts_of_list(payments))


def _parts_of_list(payments: Sequence[dict[str, Any]]) -> Iterator[RenderableType]:
    rows = [
        (
            ident(each["order_id"]),
            when(each["changed_at"]),
            each["status"],
            _why(each),
            _amount(each),
            each["customer_id"],
        )
        for each in payments
    ]
    columns = ("order", "since", "status", "reason", "amount", "customer")
    shown = table(columns, rows, right=("amount",), drop=("customer", "since"))
    yield shown if payments else "No matching payments."


@payment.command()
@click.argument("order_id", type=order_id, metavar="ORDER_ID")
@session_options
def show(session: Session, order_id: str) -> None:
    """Show the payment of an order: status, what was captured and refunded, the bank's references.

    \b
    orderflow payment show 01981c5e-7a40-7000-8000-0123456789ab
    orderflow payment show 01981c5e-7a40-7000-8000-0123456789ab --json | jq .status
    """
    with session.client("payment") as client:
        found = client.get(f"/payments/{order_id}")
    session.out.answer(found, _lines(found))


@payment.command()
@click.argument("order_id", type=order_id, metavar="ORDER_ID")
@click.option(
    "--as", "outcome", type=click.Choice(OUTCOMES), required=True, help="What happened to the charge or refund."
)
@click.option("--reason", metavar="TEXT", required=True, help="How you know; recorded in the operators' log.")
@click.option("--yes", is_flag=True, help="Confirm: this moves money.")
@session_options
def settle(session: Session, order_id: str, outcome: str, reason: str, yes: bool) -> None:
    """Settle a charge or refund that the bank left open or refused. Find out from the bank first.

    \b
    charged      the money was taken: the order goes on as paid (CHARGING, UNKNOWN)
    not-charged  it was not: the order fails (CHARGING, UNKNOWN); or a charge that you settled
                 as charged never happened, so there is nothing to refund
                 (REFUND_DUE, REFUND_REFUSED)
    refunded     the customer has the money back, from the bank or some other way
                 (REFUND_DUE, REFUND_REFUSED)
    ask-again    the bank would now make the refund that it refused (REFUND_REFUSED)

    Except for ask-again, the bank is not asked again. Repeating the command changes nothing. If the bank still
    answers and says otherwise, its answer becomes a dead letter; `orderflow audit` compares with the bank's book.

    \b
    orderflow payment settle 01981c5e-7a40-7000-8000-0123456789ab --as charged --yes --reason "it is booked"
    orderflow payment settle 01981c5e-7a40-7000-8000-0123456789ab --as refunded --yes --reason "bank transfer 88"
    """
    if not reason.strip():
        raise click.UsageError("Settling a payment takes your word for it, so say how you know: --reason TEXT")
    if not yes:
        raise RequestRefusedError(
            f"This settles the payment of order {order_id} as {outcome} and moves money. To confirm, add: --yes"
        )
    body = {"outcome": outcome, "reason": reason, "confirmed": yes}
    with session.client("payment") as client:
        settled = act(client, "POST", f"/payments/{order_id}/settlement", body)
    session.out.answer(settled, [_settled(order_id, settled)])


def _settled(order_id: str, settled: Mapping[str, Any]) -> Text:
    from orderflow.cli.order import amount

    done = "Settled" if settled["changed"] else "Settled that way before"
    captured = amount(settled["captured"], settled["currency"])
    back = amount(settled["refunded"], settled["currency"])
    stands = f"{settled['status']}, captured {captured}, refunded {back}"
    return text(f"{done}: the payment of order {order_id} is {stands}.")


def _why(found: Mapping[str, Any]) -> str:
    return str(found["refund_refusal"] or found["reason"] or "")


def _amount(found: Mapping[str, Any]) -> str:
    from orderflow.cli.order import amount

    return amount(found["amount"], found["currency"])


def _lines(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    from orderflow.cli.order import amount

    currency, settle_it = found["currency"], f"orderflow payment settle {found['order_id']} --as"
    yield joined(text("Payment of order "), text(found["order_id"], "bold"), text(f"  {found['status']}"))
    yield text(f"{amount(found['amount'], currency)} by {found['payment_method']}, customer {found['customer_id']}")
    yield text(
        f"captured {amount(found['captured'], currency)}, refunded {amount(found['refunded'], currency)}, "
        f"since {moment(found['changed_at'])}"
    )
    for name, meaning in SAID:
        if found.get(name):
            yield text(f"{meaning} {found[name]}")
    if found["status"] in ("CHARGING", "UNKNOWN", "REFUND_DUE"):
        yield text(f"Waits for the bank. If the bank leaves it open, settle it with: {settle_it} OUTCOME", "yellow")
    if found["status"] == "REFUND_REFUSED":
        yield text("Waits for an operator: the bank refuses the refund, and is no longer asked.", "bold red")
        yield text(f"Settle it with: {settle_it} refunded|not-charged|ask-again", "dim")
