"""The summary of a run, for programs and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from orderflow.cli.load.run import Wish
from orderflow.cli.load.tally import COMPLETED, FAILED, Tally, percentiles
from orderflow.cli.output import joined, text
from orderflow.cli.tables import table
from orderflow.cli.times import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

UNFINISHED = "unfinished"
POINTS = ("p50", "p90", "p99", "max")


def document(tally: Tally, wish: Wish) -> dict[str, Any]:
    """Latencies in ms, rates in orders a second."""
    orders = tally.orders.values()
    failed = Counter(order.reason for order in orders if order.status == FAILED)
    placing_s, total_s = tally.placing_ended - tally.began, tally.ended - tally.began
    return {
        "orders": {"asked": tally.asked, "placed": tally.placed, "final": tally.final},
        "outcomes": {
            COMPLETED: sum(order.status == COMPLETED for order in orders),
            FAILED: dict(failed.most_common()),
            UNFINISHED: len(tally.unfinished),
        },
        "refunds": {state: sum(order.refund == state for order in orders) for state in ("done", "due", "refused")},
        "accepted_ms": percentiles(tally.accepted_s),
        "final_ms": percentiles(tally.final_s),
        "seconds": {"placing": round(placing_s, 3), "until_final": round(total_s, 3)},
        "rates": {"accepted_per_s": _rate(tally.placed, placing_s), "final_per_s": _rate(tally.final, total_s)},
        "retries": dict(tally.retries),
        "errors": dict(tally.errors),
        "interrupted": tally.interrupted,
        "options": {"rate": wish.rate, "concurrency": wish.concurrency, "seed": wish.seed},
    }


def parts(tally: Tally, wish: Wish) -> Iterator[RenderableType]:
    """What became of the orders, how long it took, and what went wrong."""
    shown = document(tally, wish)
    if tally.interrupted:
        yield text("Interrupted; so far:", "yellow")
    yield _outcomes(tally)
    yield ""
    yield _latencies(shown)
    yield ""
    rates, seconds = shown["rates"], shown["seconds"]
    yield text(
        f"{tally.placed} orders accepted in {seconds['placing']:.1f} s ({rates['accepted_per_s']:g} a second), "
        f"{tally.final} final after {seconds['until_final']:.1f} s ({rates['final_per_s']:g} a second)"
    )
    if any(shown["refunds"].values()):
        refused = f", {shown['refunds']['refused']} refused by the bank" if shown["refunds"]["refused"] else ""
        yield text(f"refunds: {shown['refunds']['done']} done, {shown['refunds']['due']} due{refused}")
    for what, count in tally.retries.items():
        yield text(f"asked again {count} times after: {what}", "yellow")
    for what, count in tally.errors.most_common(5):
        yield joined(text(f"{count} orders not accepted: ", "bold red"), text(what))


def _outcomes(tally: Tally) -> RenderableType:
    """A line for each kind and its end, the commonest kind first."""
    counts: dict[str, Counter[str]] = {}
    for order in tally.orders.values():
        counts.setdefault(order.kind, Counter())[_end(order.status, order.reason)] += 1
    rows: list[tuple[Any, ...]] = [
        (kind, end, count)
        for kind, ends in sorted(counts.items(), key=lambda item: -item[1].total())
        for end, count in ends.most_common()
    ]
    rows.append((text("all", "bold"), "", text(tally.placed, "bold")))
    return table(("orders", "end", "count"), rows, right=("count",))


def _latencies(shown: Mapping[str, Any]) -> RenderableType:
    lines = (("POST until accepted", shown["accepted_ms"]), ("POST until final", shown["final_ms"]))
    rows = [
        (name, *(duration(measured[point]) if point in measured else "-" for point in POINTS), measured["measured"])
        for name, measured in lines
    ]
    return table(("latency", *POINTS, "measured"), rows, right=(*POINTS, "measured"))


def _end(status: str | None, reason: str) -> str:
    if status == FAILED:
        return f"{FAILED} ({reason})"
    return status or UNFINISHED


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds > 0 else 0.0
