"""`orderflow demo`: a realistic mix of orders, followed to their end, and a summary."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.errors import CliError, ExitCode, TimeUpError, UnreachableError
from orderflow.cli.http import ServiceClient
from orderflow.cli.load import COMPLETED, FAILED, Tally, Wish, percentiles, perform
from orderflow.cli.output import joined, text
from orderflow.cli.session import Session, session_options, tls_of
from orderflow.cli.tables import bars, duration, table
from orderflow.load.client import PRICES, SOLD_OUT_SKU

if TYPE_CHECKING:
    from rich.console import RenderableType

USUAL_S = 120.0
USUAL_RATE = 100.0
UNITS_AN_ORDER = 3
PLENTY = 1_000_000
ON_HAND_MAX = 1_000_000_000
PAGE = 500
UNFINISHED = "unfinished"
POINTS = ("p50", "p90", "p99", "max")


@click.command()
@click.option("--orders", type=click.IntRange(1, 1_000_000), default=200, show_default=True, help="How many.")
@click.option("--rate", type=click.FloatRange(0.01), help="Orders a second.  [default: as fast as they are answered]")
@click.option(
    "--concurrency", type=click.IntRange(1, 2000), default=64, show_default=True, help="Requests side by side."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed is the same mix of orders.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    help="Seconds for all of it.  [default: 120, and what sending takes: 1 for each 100 orders, or by --rate]",
)
@session_options
def demo(
    session: Session, orders: int, rate: float | None, concurrency: int, seed: int, timeout_s: float | None
) -> None:
    """Place many orders, follow them to their end, and sum up.

    A realistic mix: most are approved, some declined, some out of stock and refunded; now and then the bank is
    slow, fails, or times out after or before it has charged. The SKUs of the demo catalogue are put in where
    they are missing or run short. Ctrl-C ends it with the summary so far, and so does --timeout. Where no
    terminal is, standard error says every few seconds how far it is (with --json nothing).

    Exit code: 0 all accepted and final, 1 some were not accepted, 3 nothing answers (any more), 6 not all accepted
    and final in time, 130 interrupted.

    \b
    orderflow demo
    orderflow demo --orders 5000
    orderflow demo --orders 3000 --rate 50
    orderflow demo --orders 1000 --json | jq .final_ms
    """
    limit_s = timeout_s or USUAL_S + orders / (rate or USUAL_RATE)
    deadline = time.monotonic() + limit_s
    with progress_of(orders, hidden=session.out.as_json) as told:
        _within(limit_s, lambda: _prepare(session, orders))
        left_s = max(0.0, deadline - time.monotonic())
        wish = Wish(orders=orders, rate=rate, concurrency=concurrency, seed=seed, timeout_s=left_s)
        url = session.running.service_url("order")
        tally = perform(url, wish, told, tls_of(session.running))
    if session.out.as_json:
        session.out.document(document(tally, wish))
    else:
        session.out.show(*parts(tally, wish))
    _conclude(tally, url, limit_s)


def _prepare(session: Session, orders: int) -> None:
    """See that the services answer, and put in what will be ordered. Raises CliError."""
    with session.client("order") as client:
        client.get("/orders", {"limit": 1})
    with session.client("inventory") as client:
        prepare(client, orders)


def _within(limit_s: float, work: Callable[[], None]) -> None:
    """Whatever `work` waits for. Raises TimeUpError, and what it raises."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is raised where it is waited for)
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, daemon=True).start()
    try:
        done.result(limit_s)
    except TimeoutError:
        raise TimeUpError(
            f"The services had not answered after {limit_s:g} s, and no order was placed. "
            "See why with: orderflow health"
        ) from None


def _conclude(tally: Tally, url: str, limit_s: float) -> None:
    """The exit code. Raises CliError."""
    if tally.interrupted:
        raise click.exceptions.Exit(ExitCode.INTERRUPTED)
    if tally.lost_contact:
        raise UnreachableError(f"The order service at {url} answers no more. See why with: orderflow status")
    if tally.errors:
        raise CliError(f"{tally.errors.total()} of {tally.asked} orders were not accepted")
    if tally.time_is_up or tally.unfinished or tally.refunds_due():
        raise TimeUpError(
            f"After {limit_s:g} s {tally.placed} of {tally.asked} orders are accepted, "
            f"{len(tally.unfinished)} of these are not final, and {len(tally.refunds_due())} refunds are due. "
            "See what is behind or stuck with: orderflow lag; to give it longer: --timeout"
        )


def prepare(inventory: ServiceClient, orders: int) -> int:
    """Put in the SKUs of the demo catalogue that are missing or run short; returns how many that were.

    The one that is sold out stays so, and is made if it is missing. Raises CliError.
    """
    on_hand = _read(inventory)
    needed = min(orders * UNITS_AN_ORDER, ON_HAND_MAX)
    short = [sku for sku in PRICES if on_hand.get(sku, 0) < needed]
    for sku in short:
        inventory.ask("PUT", f"/stock/{sku}", body={"on_hand": max(PLENTY, needed)})
    if SOLD_OUT_SKU not in on_hand:
        inventory.ask("PUT", f"/stock/{SOLD_OUT_SKU}", body={"on_hand": 0})
    return len(short)


def _read(inventory: ServiceClient) -> dict[str, int]:
    found: dict[str, int] = {}
    cursor: str | None = ""
    while cursor is not None:
        asked: dict[str, str | int] = {"limit": PAGE}
        page = inventory.get("/stock", {**asked, "cursor": cursor} if cursor else asked)
        found |= {stock["sku"]: stock["on_hand"] for stock in page["stock"]}
        cursor = page["next"]
    return found


@contextmanager
def progress_of(orders: int, *, hidden: bool) -> Iterator[Callable[[Tally], None]]:
    """Yields what is to be told of the tally."""
    with bars(8, hidden=hidden) as show:

        def tell(tally: Tally) -> None:
            spent_s = time.monotonic() - tally.began
            trouble = "; ".join(f"{count} times {what}" for what, count in list(tally.retries.items()))
            speed = f"{tally.placed / spent_s:.0f}/s" if tally.began and spent_s > 0 else ""
            show("accepted", tally.placed, orders, "; ".join(part for part in (speed, trouble) if part))
            show("final", tally.final, orders, "")

        yield tell


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
