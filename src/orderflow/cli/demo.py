"""`orderflow demo`: place many orders, follow them to their end, and sum up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orderflow.cli.errors import CliError, ExitCode, TimeUpError, UnreachableError
from orderflow.cli.session import Session, session_options

if TYPE_CHECKING:
    from orderflow.cli.load.tally import Tally


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
    type=click.FloatRange(0),
    default=120.0,
    show_default=True,
    help="Seconds to wait for ends and refunds, after the last order was placed.",
)
@session_options
def demo(session: Session, orders: int, rate: float | None, concurrency: int, seed: int, timeout_s: float) -> None:
    """Place many orders, follow them to their end, and sum up.

    A realistic mix: most are approved, some declined, some out of stock and refunded; now and then the bank is
    slow, fails, or times out after or before it has charged. The SKUs of the demo catalogue are put in where
    they are missing or run short. Ctrl-C ends it with the summary so far.

    Exit code: 0 all accepted and final, 1 some were not accepted, 3 nothing answers (any more), 6 not all final
    in time, 130 interrupted.

    \b
    orderflow demo
    orderflow demo --orders 5000
    orderflow demo --orders 3000 --rate 50
    orderflow demo --orders 1000 --json | jq .final_ms
    """
    from orderflow.cli.load import report, stock
    from orderflow.cli.load.progress import progress_of
    from orderflow.cli.load.run import Wish, perform

    wish = Wish(orders=orders, rate=rate, concurrency=concurrency, seed=seed, timeout_s=timeout_s)
    with session.client("order") as client:
        client.get("/orders", {"limit": 1})
    with session.client("inventory") as client:
        stock.prepare(client, orders)
    url = session.running.service_url("order")
    with progress_of(orders, hidden=session.out.as_json) as told:
        tally = perform(url, wish, told)
    if session.out.as_json:
        session.out.document(report.document(tally, wish))
    else:
        session.out.show(*report.parts(tally, wish))
    _conclude(tally, url, timeout_s)


def _conclude(tally: Tally, url: str, timeout_s: float) -> None:
    """The exit code. Raises CliError."""
    if tally.interrupted:
        raise click.exceptions.Exit(ExitCode.INTERRUPTED)
    if tally.lost_contact:
        raise UnreachableError(f"The order service at {url} answers no more. See why with: orderflow status")
    if tally.errors:
        raise CliError(f"{tally.errors.total()} of {tally.asked} orders were not accepted")
    if tally.unfinished or tally.refunds_due():
        raise TimeUpError(
            f"After {timeout_s:g} s {len(tally.unfinished)} orders are not final and {len(tally.refunds_due())} "
            "refunds are due. See what is behind or stuck with: orderflow lag"
        )
