"""`orderflow audit`: are the five promises kept?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.errors import ExitCode, TimeUpError, UnreachableError
from orderflow.cli.plain import counted
from orderflow.cli.session import Session, session_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orderflow.audit.findings import Report

PROMISES = {
    1: "nothing is lost",
    2: "nothing happens twice",
    3: "nothing illegal is stored",
    4: "nothing blocks its neighbours",
    5: "the books balance",
}


@click.command()
@click.option(
    "--wait",
    "wait_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="How long to wait until nothing is under way.",
)
@session_options
def audit(session: Session, wait_s: float) -> None:
    """Check the five promises over the databases of all services and of the bank. Nothing is changed.

    Whether every order has reached its end can only be told at rest. While orders keep coming, what holds at
    every moment is checked (no double charge, no illegal step, stock that adds up), and the exit code is 6.

    \b
    orderflow audit
    orderflow audit --wait 60
    orderflow audit --json | jq '.findings[]'

    \b
    Exit codes: 0 all promises are kept; 1 some are not; 3 a database or the log does not answer;
    6 nothing was found, but orders are still under way.
    """
    report = asyncio.run(_audit(session, wait_s))
    if session.out.as_json:
        session.out.document(_document(report))
    else:
        session.out.show(*_parts(report))
    if report.count:
        raise click.exceptions.Exit(ExitCode.FAILED)
    if not report.at_rest:
        raise TimeUpError(f"Orders were still under way after {wait_s:g} s. Wait longer with: --wait SECONDS")


async def _audit(session: Session, wait_s: float) -> Report:
    from orderflow.audit.databases import DATABASES
    from orderflow.audit.live import audit as run
    from orderflow.audit.rest import Look
    from orderflow.cli.bars import heartbeat
    from orderflow.cli.log_access import open_log
    from orderflow.cli.running import database_url
    from orderflow.messaging.store import SchemaBehindError, StoreUnavailableError

    settings, busy = session.running, "looking at the services"

    def told(look: Look) -> None:
        nonlocal busy
        busy = "; ".join(f"{each.service}: {each.under_way}" for each in look.services if each.under_way)

    urls = {name: database_url(settings, name) for name in DATABASES}
    try:
        with heartbeat(lambda: busy or "reading the books", hidden=session.out.as_json):
            async with open_log(settings) as transport:
                return await run(urls, transport, wait_s=wait_s, told=told)
    except (StoreUnavailableError, SchemaBehindError) as error:
        raise UnreachableError(f"A database cannot be audited: {error}") from error


def _document(report: Report) -> dict[str, Any]:
    return {
        "kept": report.count == 0,
        "at_rest": report.at_rest,
        "orders": report.orders,
        "statuses": report.statuses,
        "stuck": report.stuck,
        "refunded_by_word": report.refunded_by_word,
        "waiting": dict(report.waiting),
        "count": report.count,
        "findings": [
            {
                "promise": int(finding.promise),
                "subject": finding.subject,
                "what": finding.what,
                "expected": finding.expected,
                "found": finding.found,
            }
            for finding in report.findings
        ],
    }


def _parts(report: Report) -> Iterator[RenderableType]:
    from orderflow.cli.counts import words
    from orderflow.cli.dlt.entries import entry
    from orderflow.cli.output import text
    from orderflow.cli.tables import ident

    outcomes = ", ".join(f"{count} {status}" for status, count in sorted(report.statuses.items())) or "none"
    yield f"{counted(report.orders, 'order')}: {outcomes}."
    if any(report.waiting.values()):
        yield f"events that wait: {words(report.waiting)}; see them with: orderflow dlt list --state all"
    if report.stuck:
        yield (
            f"{counted(report.stuck, 'order')} in need of an operator: see them with orderflow dlt list, "
            "and orderflow payment list --state refund_refused"
        )
    if report.refunded_by_word:
        orders = counted(report.refunded_by_word, "order")
        yield f"{orders} refunded by an operator's word: the bank's book has no refund."
    broken = {int(finding.promise) for finding in report.findings}
    for number, promise in PROMISES.items():
        yield f"  {number}. {promise}: {_verdict(number, broken, report)}"
    if report.findings:
        yield ""
    for found in report.findings:
        head = (text(f"promise {int(found.promise)}", "red"), ident(found.subject), text(found.what))
        yield from entry(head, (text(f"expected {found.expected}, found {found.found}"),))
    if report.count > len(report.findings):
        yield f"{report.count - len(report.findings)} more were found."


def _verdict(number: int, broken: set[int], report: Report) -> str:
    if number in broken:
        return "NOT KEPT"
    return "kept" if report.at_rest else "kept so far"
