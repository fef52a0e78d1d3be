"""`orderflow audit`: are the five promises kept?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.errors import ExitCode, TimeUpError, UnreachableError
from orderflow.cli.repair_options import RepairRequest, repair_options
from orderflow.cli.session import Session, database_url, session_options
from orderflow.cli.tables import heartbeat

if TYPE_CHECKING:
    from orderflow.audit.findings import Report
    from orderflow.audit.live import Scope


@click.command()
@click.option(
    "--wait",
    "wait_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Wait up to this long until nothing is under way.",
)
@click.option(
    "--watch",
    "every_s",
    metavar="[SECONDS]",
    is_flag=False,
    flag_value=10.0,
    default=None,
    type=click.FloatRange(min=0.1),
    help="Audit again and again, reporting what is new and what is gone, until Ctrl-C.",
)
@click.option("--topics/--no-topics", default=True, help="Compare the topics with the outboxes, or not.")
@repair_options
@session_options
def audit(session: Session, wait_s: float, every_s: float | None, topics: bool, asked: RepairRequest | None) -> None:
    """Check the five promises across all databases, the bank's book and the topics. Only --repair changes anything.

    Findings are grouped by kind: what it is, where, since when, which orders, and what to do. You can run it while
    orders keep coming: anything suspicious is checked again once the work then under way is done, and only what
    persists is reported. Whether every order reaches its end shows only at rest; otherwise the exit code is 6.

    \b
    orderflow audit
    orderflow audit --wait 60
    orderflow audit --watch 30
    orderflow audit --json | jq '.kinds[] | {kind, count, remedy}'
    orderflow audit --repair
    orderflow audit --repair --only refund-missing --yes --reason "ticket 4711"

    --repair shows a plan: which service says an event again that never arrived, or takes one again whose effect is
    missing, and what only a person can decide. Once you agree, it is carried out, logged, and audited again.

    \b
    Exit codes: 0 all promises are kept; 1 some are not; 3 a database, the log or a service does not answer;
    5 the repair was not confirmed; 6 nothing was found, but orders are still under way. With --watch: 0 or 1,
    as last seen.
    """
    if every_s is not None:
        from orderflow.cli.audit_report import watch

        watch(session, every_s, lambda scope: asyncio.run(_audit(session, 0.0, scope)), topics=topics)
        return
    report, repaired = _repaired(session, lambda: asyncio.run(_audit(session, wait_s, _scope(topics))), asked)
    from orderflow.cli.audit_report import document, parts

    session.out.answer(document(report) | repaired, parts(report))
    if report.count:
        raise click.exceptions.Exit(ExitCode.FAILED)
    if not report.at_rest:
        raise TimeUpError(f"Orders were still under way after {wait_s:g} s. Wait longer with: --wait SECONDS")


def _repaired(
    session: Session, look: Callable[[], Report], asked: RepairRequest | None
) -> tuple[Report, dict[str, Any]]:
    """The last look, and for programs what was done before it."""
    if asked is None:
        return look(), {}
    from orderflow.cli.repair import repair

    return repair(session, look, asked)


def _scope(topics: bool) -> Scope:
    from orderflow.audit.live import Scope

    return Scope(topics=topics)


async def _audit(session: Session, wait_s: float, scope: Scope) -> Report:
    from orderflow.audit.collect import Look, audited
    from orderflow.audit.live import audit as run
    from orderflow.cli.topic import open_log
    from orderflow.core.store import SchemaBehindError, StoreUnavailableError

    settings, busy = session.running, "looking at the services"

    def told(look: Look) -> None:
        nonlocal busy
        busy = "; ".join(f"{each.service}: {each.under_way}" for each in look.services if each.under_way)

    urls = {name: database_url(settings, name) for name in audited()}
    try:
        with heartbeat(lambda: busy or "reading the books", hidden=session.out.as_json):
            async with open_log(settings) as transport:
                return await run(urls, transport, wait_s=wait_s, notify=told, scope=scope)
    except (StoreUnavailableError, SchemaBehindError) as error:
        raise UnreachableError(f"A database cannot be audited: {error}") from error
