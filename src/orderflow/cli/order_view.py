"""An order as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orderflow.cli.output import joined, text
from orderflow.cli.tables import ident, table, when
from orderflow.cli.times import duration, moment
from orderflow.events.currencies import KNOWN_CURRENCIES, format_amount

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

FINAL = ("COMPLETED", "FAILED")
WAITS_FOR = MappingProxyType(
    {
        "PENDING": "the payment service to charge the card (PaymentSucceeded or PaymentFailed)",
        "PAID": "the inventory service to reserve the items (StockReserved or StockRejected)",
    }
)
REFUND_STYLES = MappingProxyType({"due": "yellow", "refused": "bold red", "done": "green", "void": "green"})
REFUND_MEANS = MappingProxyType(
    {
        "due": "the money is to go back",
        "refused": "the bank will not give the money back, and an operator has to see to it",
        "done": "the money is back",
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
        what = "was given up" if dead else "failed and will be tried again"
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
