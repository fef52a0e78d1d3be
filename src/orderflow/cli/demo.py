"""`orderflow demo`: place many orders, follow them to their end, and sum up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

import click

from orderflow.cli.errors import CliError, ExitCode, TimeUpError, UnreachableError
from orderflow.cli.session import Session, session_options

if TYPE_CHECKING:
    from orderflow.cli.load.tally import Tally

USUAL_S = 120.0
USUAL_RATE = 100.0


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
    from orderflow.cli.load import report
    from orderflow.cli.load.progress import progress_of
    from orderflow.cli.load.run import Wish, perform

    limit_s = timeout_s or USUAL_S + orders / (rate or USUAL_RATE)
    deadline = time.monotonic() + limit_s
    with progress_of(orders, hidden=session.out.as_json) as told:
        _within(limit_s, lambda: _prepare(session, orders))
        left_s = max(0.0, deadline - time.monotonic())
        wish = Wish(orders=orders, rate=rate, concurrency=concurrency, seed=seed, timeout_s=left_s)
        url = session.running.service_url("order")
        tally = perform(url, wish, told)
    if session.out.as_json:
        session.out.document(report.document(tally, wish))
    else:
        session.out.show(*report.parts(tally, wish))
    _conclude(tally, url, limit_s)


def _prepare(session: Session, orders: int) -> None:
    """See that the services answer, and put in what will be ordered. Raises CliError."""
    from orderflow.cli.load import stock

    with session.client("order") as client:
        client.get("/orders", {"limit": 1})
    with session.client("inventory") as client:
        stock.prepare(client, orders)


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
