"""`orderflow order`: place orders, list and show them, follow them to their end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from orderflow.cli.errors import CliError, ExitCode, TimeUpError, UnreachableError
from orderflow.cli.explain import explain
from orderflow.cli.http import AnswerLostError, ServiceClient
from orderflow.cli.lazy import Group
from orderflow.cli.output import Output, joined, pause, text
from orderflow.cli.session import Session, session_options
from orderflow.cli.tables import Fitted, duration, heartbeat, ident, moment, table, when
from orderflow.cli.values import item, order_id
from orderflow.events.currencies import KNOWN_CURRENCIES, format_amount

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

FINAL = ("COMPLETED", "FAILED")
ON_THE_WAY = ("order", "payment", "inventory")
"""The consumers without which an order does not end; that a notice to the customer is stuck holds up no order."""
WAITS_FOR = MappingProxyType(
    {
        "PENDING": "the payment service to charge the card (PaymentSucceeded or PaymentFailed)",
        "PAID": "the inventory service to reserve the items (StockReserved or StockRejected)",
    }
)
REFUND_STYLES = MappingProxyType({"due": "yellow", "refused": "bold red", "done": "green", "void": "green"})
REFUND_MEANS = MappingProxyType(
    {
        "due": "the money is to be given back",
        "refused": "the bank refuses the refund: an operator has to settle it",
        "done": "the money was given back",
        "void": "no money was taken",
    }
)
STYLES = MappingProxyType({"PENDING": "yellow", "PAID": "cyan", "COMPLETED": "green", "FAILED": "red"})


def is_final(order: Mapping[str, Any]) -> bool:
    """Whether nothing more will happen to its status."""
    return order.get("status") in FINAL


def amount(value: Any, currency: Any) -> str:
    """Minor units as money; what is none, as it is."""
    if isinstance(value, int) and currency in KNOWN_CURRENCIES:
        return format_amount(value, currency)
    return f"{value} {currency}"


def status(value: object) -> Text:
    return text(value, f"bold {STYLES.get(str(value), 'white')}")


def parts(order: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The order, its items, its history, and what it is stuck at."""
    yield joined(text("Order "), text(order["id"], "bold"), text("  "), status(order["status"]), _because(order))
    currency = order["currency"]
    yield joined(
        text(f"customer {order['customer_id']}, total {amount(order['total'], currency)}, "),
        text(f"paid by {order['payment_method']}"),
    )
    if order.get("refund", "none") != "none":
        yield refund(order["refund"])
    if order.get("refund") == "refused":
        yield text(f"  See it with: orderflow payment show {order['id']}", "dim")
    yield ""
    yield table(
        ("sku", "quantity", "unit price"),
        [(item["sku"], item["quantity"], amount(item["unit_price"], currency)) for item in order["items"]],
        right=("quantity", "unit price"),
    )
    if order.get("history"):
        yield ""
        yield history(order["history"])
    if order["status"] in WAITS_FOR:
        yield ""
        yield text(f"Waits for {WAITS_FOR[order['status']]}.", "yellow")
    yield from stuck(order)


def history(steps: Sequence[Mapping[str, Any]]) -> RenderableType:
    """When the order came to which status, by which event, how long after it was placed."""
    start = steps[0]["at"]
    return table(
        ("time", "after", "status", "because of", "event id"),
        [
            (
                when(step["at"]),
                elapsed(start, step["at"]),
                _brought(step),
                _event(step),
                ident(step["cause"] or "-"),
            )
            for step in steps
        ],
        right=("after",),
        drop=("time", "after"),
    )


def step_line(step: Mapping[str, Any], start: object) -> Text:
    """One step on one line, for watching."""
    return joined(
        text(f"{moment(step['at'])}  {elapsed(start, step['at']):>9}  "),
        _brought(step, 16),
        text(f" {_event(step)}"),
    )


def refund(stands: str) -> Text:
    """How the refund stands, and what that means."""
    means = f": {REFUND_MEANS[stands]}" if stands in REFUND_MEANS else ""
    return text(f"refund {stands}{means}", REFUND_STYLES.get(stands, "yellow"))


def stuck(order: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Where the order waits, because of what, and who has to do something."""
    for consumer, obstacle in (order.get("stuck") or {}).items():
        dead = obstacle["state"] == "dead"
        what = "was given up" if dead else "failed and will be retried"
        tries = f" after {obstacle['attempts']} attempts" if obstacle.get("attempts") else ""
        yield ""
        yield text(f"Stuck at {consumer}: {obstacle['event_type']} {what}{tries}", "bold red" if dead else "yellow")
        yield text(f"  {obstacle['error']}")
        if order.get("stuck_since"):
            yield text(f"  since {moment(order['stuck_since'])}")
        if dead:
            yield text(f"  See it with: orderflow dlt show {obstacle['event_id']}", "dim")


def elapsed(start: object, end: object) -> str:
    """Between two RFC 3339 times; empty when they are none."""
    try:
        passed = datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))
    except (ValueError, TypeError):
        return ""
    return f"+{duration(passed.total_seconds() * 1000)}"


def _brought(step: Mapping[str, Any], width: int = 0) -> Text:
    """What a step has brought about: a status, or how the refund stands."""
    if step.get("refund"):
        return text(f"refund {step['refund']}".ljust(width), REFUND_STYLES.get(step["refund"], "yellow"))
    return text(str(step["status"]).ljust(width), f"bold {STYLES.get(str(step['status']), 'white')}")


def _event(step: Mapping[str, Any]) -> str:
    return f"{step['event']} ({step['reason']})" if step.get("reason") else str(step["event"])


def _because(order: Mapping[str, Any]) -> Text:
    return text(f"  ({order['reason']})" if order.get("reason") else "")


DEFAULT_ITEM = "SKU-ESPRESSO-CUP:1:1250"
STATUSES = ("PENDING", "PAID", "COMPLETED", "FAILED")
KEY_HEADER = "Idempotency-Key"
PAGE = 100
HELD_S = 0.5
RETRY_S = 1.0


@click.group(cls=Group)
def order() -> None:
    """Place orders, and see what happened to them.

    \b
    orderflow order place --wait 10
    orderflow order list --status FAILED --limit 5
    orderflow order show 01981c5e-7a40-7000-8000-0123456789ab
    orderflow order watch 01981c5e-7a40-7000-8000-0123456789ab
    orderflow order explain 01981c5e-7a40-7000-8000-0123456789ab
    """


order.add_command(explain)


@order.command()
@click.option("--customer", default="customer-1", show_default=True, help="The shop's id for the customer.")
@click.option("--currency", default="EUR", show_default=True, help="Three-letter ISO 4217 code.")
@click.option(
    "--item",
    "items",
    type=item,
    metavar="SKU:QTY:PRICE",
    multiple=True,
    default=[DEFAULT_ITEM],
    show_default=True,
    help="An item, its price in minor units; repeatable.",
)
@click.option("--payment-method", default="pm_card_visa", show_default=True, help="Name of a test card.")
@click.option("--idempotency-key", help="Place only one order under this key.  [default: a random key]")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0, 3600), default=0.0, help="Wait this many seconds for its end."
)
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

    With --wait, the exit code says how it ended: 0 COMPLETED, 1 FAILED, 6 not ended in time. The wait also ends (1)
    where only an operator can go on: an event of the order was given up, or the bank refuses the refund.

    \b
    orderflow order place --wait 10
    orderflow order place --item SKU-ESPRESSO-CUP:2:1250 --item SKU-MILK-JUG:1:3900 --currency EUR
    orderflow order place --payment-method pm_card_chargeDeclined --wait 10
    orderflow order place --idempotency-key cart-4711      (again: the same order)
    ID=$(orderflow order place --json | jq -r .id)
    """
    wanted = {
        "customer_id": customer,
        "currency": currency,
        "items": list(items),
        "payment_method": payment_method,
    }
    with session.client("order") as client:
        placed, replayed = place_order(client, wanted, idempotency_key or str(uuid4()))
        if wait_s:
            with heartbeat(lambda: f"the order {placed['id']} is {placed['status']}", hidden=session.out.as_json):
                for seen in until_end(client, placed["id"], wait_s):
                    placed = seen or placed
                    if given_up(placed):
                        break
    _show(session, {**placed, "replayed": replayed})
    if wait_s:
        _end_with(session, placed, wait_s)


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
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1),
    default=300.0,
    show_default=True,
    help="Give up after this many seconds.",
)
@session_options
def watch(session: Session, order_id: str, timeout_s: float) -> None:
    """Follow an order live until it has ended, refund included, or until the bank refuses the refund.

    Exit code: 0 COMPLETED; 1 FAILED, or stuck when the time is up, because an event was given up; 6 not ended in
    time. With --json, one line per step.

    \b
    orderflow order watch 01981c5e-7a40-7000-8000-0123456789ab
    orderflow order watch "$ID" --json --timeout 30
    """
    with session.client("order") as client:
        _end_with(session, watch_order(client, session.out, order_id, timeout_s), timeout_s)


@order.command(name="list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only orders in this status.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Maximum number to show."
)
@session_options
def list_orders(session: Session, status: str | None, limit: int) -> None:
    """List orders, newest first.

    \b
    orderflow order list
    orderflow order list --status PENDING --limit 100
    orderflow order list --status FAILED --json | jq -r '.orders[] | [.id, .reason] | @tsv'
    """
    with session.client("order") as client:
        orders = client.listed("/orders", "orders", {"status": status} if status else {}, page=PAGE, limit=limit)
    session.out.answer({"orders": orders}, _parts_of_list(orders))


def _show(session: Session, found: dict[str, Any]) -> None:
    if found.get("replayed") and not session.out.as_json:
        session.out.show("This key was used before: this is the order it placed.")
    session.out.answer(found, parts(found))


def _end_with(session: Session, found: dict[str, Any], waited_s: float) -> None:
    """The exit code for what became of an order. Raises TimeUpError, CliError: an operator has to end it."""
    command, order_id = session.given.command, found["id"]
    if obstacle := given_up(found):
        raise CliError(
            f"The order {found['id']} is {found['status']} and stuck: {obstacle['event_type']} was given up, so an "
            f"operator has to go on. See why with: {command(f'order explain {order_id}')}; once that is mended, send "
            f"the event again with: {command('dlt replay ' + obstacle['event_id'])}"
        )
    if not has_ended(found):
        due = ", its refund is still due" if found.get("refund") == "due" else ""
        raise TimeUpError(
            f"The order {found['id']} is {found['status']} after {waited_s:g} s{due}. "
            f"Keep watching with: {command(f'order watch {order_id}')}"
        )
    if found.get("refund") == "refused":
        raise CliError(
            f"The order {found['id']} is {found['status']}, and the bank refuses its refund: an operator has to "
            f"settle it. See why with: {command(f'payment show {order_id}')}. What to do stands in docs/runbook.md: "
            "A refund that the bank refuses"
        )
    if found["status"] == "FAILED":
        raise click.exceptions.Exit(ExitCode.FAILED)


def place_order(client: ServiceClient, wanted: dict[str, Any], key: str) -> tuple[dict[str, Any], bool]:
    """The order, and whether an earlier request of this key had placed it.

    Raises AnswerLostError that says how to ask again, and what `ServiceClient.ask` raises.
    """
    headers = {KEY_HEADER: quoted(key)}
    try:
        answer = client.ask("POST", "/orders", body=wanted, headers=headers)
    except AnswerLostError as error:
        raise AnswerLostError(
            f"{error}. The order may or may not have been placed; to retry without placing it twice, repeat the "
            f"command with --idempotency-key {key}"
        ) from error
    return answer.body, answer.headers.get("idempotency-replayed") == "true"


def quoted(key: str) -> str:
    """As a string of RFC 9651. Raises click.UsageError."""
    if not (key.isascii() and key.isprintable() and 0 < len(key) <= 255):
        raise click.UsageError(f"--idempotency-key is {key[:40]!r}; expected: 1 to 255 printable ASCII characters")
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _parts_of_list(orders: list[dict[str, Any]]) -> Iterator[RenderableType]:
    yield table_of(orders) if orders else "No matching orders."


def table_of(orders: list[dict[str, Any]]) -> Fitted:
    """For people."""
    return table(
        ("order", "placed", "status", "reason", "refund", "total", "customer"),
        [
            (
                ident(order["id"]),
                when(order["created_at"]),
                status(order["status"]),
                order["reason"],
                "" if order["refund"] == "none" else order["refund"],
                amount(order["total"], order["currency"]),
                order["customer_id"],
            )
            for order in orders
        ],
        right=("total",),
        drop=("customer", "refund", "reason", "placed"),
    )


def until_end(client: ServiceClient, order_id: str, timeout_s: float) -> Iterator[dict[str, Any] | None]:
    """The order again and again, the last time as it ended, or as it was when time was up.

    The service holds each answer for a moment, so an end is seen at once and a step within half a second.
    All of it takes no longer than `timeout_s`, also where answers do not come.
    Yields None while the service cannot be reached; the first call must reach it. Raises NotFoundError,
    ReaderGoneError.
    """
    deadline = time.monotonic() + timeout_s
    order: dict[str, Any] | None = client.get(f"/orders/{order_id}", within_s=timeout_s)
    yield order
    while not (order and has_ended(order)) and (left_s := deadline - time.monotonic()) > 0:
        pause(0)
        held_s = min(HELD_S, left_s)
        asked_at = time.monotonic()
        try:
            asked = {"wait": f"{held_s:.3f}"}
            order = client.get(f"/orders/{order_id}", asked, wait_s=held_s, within_s=left_s)
        except UnreachableError:
            order = None
        yield order
        early_s = (RETRY_S if order is None else held_s) - (time.monotonic() - asked_at)
        if early_s > 0 and not (order and has_ended(order)):
            pause(min(early_s, max(0.0, deadline - time.monotonic())))


def has_ended(order: Mapping[str, Any]) -> bool:
    """Whether nothing more comes by itself: final, and no refund that is still tried (one that is refused is not)."""
    return is_final(order) and order.get("refund") != "due"


def given_up(order: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What was given up of those events without which the order does not end; None: it may still end by itself."""
    if has_ended(order):
        return None
    stuck = order.get("stuck") or {}
    return next((each for name, each in stuck.items() if name in ON_THE_WAY and each["state"] == "dead"), None)


def watch_order(client: ServiceClient, out: Output, order_id: str, timeout_s: float) -> dict[str, Any]:
    """Show what happens to the order; returns it as it was at the end. Raises CliError."""
    told = _Teller(out, order_id)
    last: dict[str, Any] = {}
    with heartbeat(lambda: f"it is {last['status']}" if last else "", hidden=out.as_json):
        for order in until_end(client, order_id, timeout_s):
            told.tell(order)
            last = order or last
    return last


class _Teller:
    """Says each thing once."""

    def __init__(self, out: Output, order_id: str) -> None:
        self._out = out
        self._order_id = order_id
        self._steps = 0
        self._stuck: dict[str, Any] = {}
        self._away = False

    def tell(self, order: dict[str, Any] | None) -> None:
        if order is None:
            self._tell_away()
            return
        self._away = False
        for step in order["history"][self._steps :]:
            self._tell_step(step, order)
        self._steps = max(self._steps, len(order["history"]))
        if order["stuck"] != self._stuck:
            self._stuck = order["stuck"]
            self._tell_stuck(order)

    def _tell_step(self, step: dict[str, Any], order: dict[str, Any]) -> None:
        if self._out.as_json:
            self._out.line({"id": self._order_id, **step})
        else:
            line = step_line(step, order["history"][0]["at"])
            if step["status"] == "FAILED" and not step.get("refund"):
                line.append_text(text(f" ({order['reason']})"))
            self._out.show(line)

    def _tell_stuck(self, order: dict[str, Any]) -> None:
        if self._out.as_json:
            self._out.line({"id": self._order_id, "stuck": self._stuck})
        elif self._stuck:
            self._out.show(*stuck(order))
        else:
            self._out.show(text("It is no longer stuck.", "green"))

    def _tell_away(self) -> None:
        if not self._away and not self._out.as_json:
            self._out.show(text("The order service does not answer; trying again", "yellow"))
        self._away = True
