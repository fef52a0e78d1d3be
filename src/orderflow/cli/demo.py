"""`orderflow demo`: a realistic mix of orders, followed to their end, and a summary."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.acting import act
from orderflow.cli.errors import CliError, ExitCode, TimeUpError, UnreachableError
from orderflow.cli.fault import require_game_day
from orderflow.cli.http import ServiceClient
from orderflow.cli.load import COMPLETED, FAILED, LoadOptions, Tally, percentiles, perform
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
PATIENCE_S = 10.0
FAULTS: Mapping[str, Mapping[str, str]] = {
    "payment": {"event_type": "OrderPlaced", "value": "SKU-DESK-LAMP"},
    "inventory": {"event_type": "PaymentSucceeded", "value": "SKU-WALL-CLOCK"},
}
STUCK = (
    "{count} orders are stuck, on purpose. See them on the page, or with: orderflow stuck. When you have seen "
    "enough: orderflow fault clear --all, then: orderflow dlt replay --all"
)
POINTS = ("p50", "p90", "p99", "max")
BLOCK = "\N{FULL BLOCK}"
BAR_MAX = 40


@click.command()
@click.option(
    "--orders", type=click.IntRange(1, 1_000_000), default=200, show_default=True, help="How many orders to place."
)
@click.option(
    "--rate", type=click.FloatRange(0.01), help="Orders per second.  [default: as fast as they are answered]"
)
@click.option(
    "--concurrency", type=click.IntRange(1, 2000), default=64, show_default=True, help="Requests in flight at once."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same mix of orders.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    help="Seconds for the whole run.  [default: 120, plus the time to send: 1 per 100 orders, or as --rate takes]",
)
@click.option(
    "--faults", is_flag=True, help="Let some orders get stuck, to explain and replay; needs `up --game-day`."
)
@session_options
def demo(
    session: Session,
    orders: int,
    rate: float | None,
    concurrency: int,
    seed: int,
    timeout_s: float | None,
    faults: bool,
) -> None:
    """Place many orders, follow each to its end, and print a summary.

    A realistic mix: most orders are approved, some declined, some out of stock and refunded; now and then the bank
    is slow, fails, or times out before or after charging. SKUs of the demo catalogue that are missing or run short
    are restocked. Ctrl-C or --timeout ends it with the summary so far. Without a terminal, progress goes to standard
    error every few seconds (not with --json).

    With --faults, two services keep failing on some orders, so there is something to see on the page and to fix. The
    faults stay until you clear them.

    Exit code: 0 all accepted and final (except those that --faults broke), 1 some were not accepted, 3 nothing
    answers, 6 not all accepted and final in time, 130 interrupted.

    \b
    orderflow demo
    orderflow demo --orders 5000
    orderflow demo --orders 3000 --rate 50
    orderflow demo --orders 2000 --faults
    orderflow demo --orders 1000 --json | jq .final_ms
    """
    limit_s = timeout_s or USUAL_S + orders / (rate or USUAL_RATE)
    patience_s = PATIENCE_S if faults else math.inf
    wish = LoadOptions(
        orders=orders, rate=rate, concurrency=concurrency, seed=seed, timeout_s=limit_s, patience_s=patience_s
    )
    _run(session, wish)


def _run(session: Session, wish: LoadOptions) -> None:
    """Raises CliError."""
    on_purpose, limit_s = wish.patience_s < math.inf, wish.timeout_s
    deadline = time.monotonic() + limit_s
    with progress_of(wish.orders, hidden=session.out.as_json) as told:
        _within(limit_s, lambda: _prepare(session, wish.orders, faults=on_purpose))
        wish = replace(wish, timeout_s=max(0.0, deadline - time.monotonic()))
        url = session.running.service_url("order")
        tally = perform(url, wish, told, tls_of(session.running))
    session.out.answer(document(tally, wish), parts(tally, wish))
    if not on_purpose or tally.errors or tally.lost_contact or tally.interrupted:
        _conclude(tally, url, limit_s)
    elif not session.out.as_json:
        session.out.show(text(STUCK.format(count=len(tally.unfinished)), "bold magenta"))


def _prepare(session: Session, orders: int, *, faults: bool) -> None:
    """See that the services answer, and put in what will be ordered, and the faults. Raises CliError."""
    for service, wanted in FAULTS.items() if faults else ():
        with session.client(service) as client:
            require_game_day(client)
            if not client.get("/ops/faults")["faults"]:
                act(client, "POST", "/ops/faults", {"field": "sku", "error": "permanent", **wanted})
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
            f"The services did not answer within {limit_s:g} s, and no order was placed. "
            "See why with: orderflow health"
        ) from None


def _conclude(tally: Tally, url: str, limit_s: float) -> None:
    """The exit code. Raises CliError."""
    if tally.interrupted:
        raise click.exceptions.Exit(ExitCode.INTERRUPTED)
    if tally.lost_contact:
        raise UnreachableError(f"The order service at {url} no longer answers. See why with: orderflow status")
    if tally.errors:
        raise CliError(f"{tally.errors.total()} of {tally.asked} orders were not accepted")
    if tally.time_is_up or tally.unfinished or tally.refunds_due():
        raise TimeUpError(
            f"After {limit_s:g} s {tally.placed} of {tally.asked} orders are accepted, "
            f"{len(tally.unfinished)} of these are not final, and {len(tally.refunds_due())} refunds are due. "
            "See what is behind or stuck with: orderflow lag; to allow more time: --timeout"
        )


def prepare(inventory: ServiceClient, orders: int) -> int:
    """Put in the SKUs of the demo catalogue that are missing or run short; returns how many that were.

    The one that is sold out stays so, and is made if it is missing. Raises CliError.
    """
    on_hand = {stock["sku"]: stock["on_hand"] for stock in inventory.listed("/stock", "stock", {}, page=PAGE)}
    needed = min(orders * UNITS_AN_ORDER, ON_HAND_MAX)
    short = [sku for sku in PRICES if on_hand.get(sku, 0) < needed]
    for sku in short:
        inventory.ask("PUT", f"/stock/{sku}", body={"on_hand": max(PLENTY, needed)})
    if SOLD_OUT_SKU not in on_hand:
        inventory.ask("PUT", f"/stock/{SOLD_OUT_SKU}", body={"on_hand": 0})
    return len(short)


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


def document(tally: Tally, wish: LoadOptions) -> dict[str, Any]:
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


def parts(tally: Tally, wish: LoadOptions) -> Iterator[RenderableType]:
    """What became of the orders, how long it took, and what went wrong."""
    shown = document(tally, wish)
    if tally.interrupted:
        yield text("Interrupted; so far:", "yellow")
    yield _outcomes(tally)
    yield ""
    yield _latencies(shown)
    yield ""
    yield from _chart(tally)
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


def _chart(tally: Tally) -> Iterator[RenderableType]:
    """How the latencies of the sample and the ends of all orders are spread."""
    ends = Counter(_end(order.status, order.reason) for order in tally.orders.values())
    if tally.final_s:
        yield _bars("POST until final", _spread(tally.final_s))
        yield ""
    if ends:
        yield _bars("how they ended", ends.most_common())
        yield ""


def _spread(seconds: Sequence[float]) -> list[tuple[str, int]]:
    """How many took how long, in steps of 1, 2 and 5, from the fastest to the slowest."""
    steps = [digit * 10.0**power for power in range(6) for digit in (1, 2, 5)]
    counted = Counter(bisect_left(steps, each * 1000) for each in seconds)
    return [
        (f"up to {duration(steps[at])}" if at < len(steps) else f"over {duration(steps[-1])}", counted[at])
        for at in range(min(counted), max(counted) + 1)
    ]


def _bars(title: str, counts: Sequence[tuple[str, int]]) -> RenderableType:
    """A line for each, as long as its share."""
    whole, most = sum(count for _, count in counts), max(count for _, count in counts)
    rows = [
        (
            label,
            text(BLOCK * max(1 if count else 0, round(BAR_MAX * count / most)), "cyan"),
            count,
            f"{count / whole:.0%}",
        )
        for label, count in counts
    ]
    return table((title, "", "count", "share"), rows, right=("count", "share"))


def _end(status: str | None, reason: str) -> str:
    if status == FAILED:
        return f"{FAILED} ({reason})"
    return status or UNFINISHED


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds > 0 else 0.0
