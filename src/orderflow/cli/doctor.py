"""`orderflow doctor`: check this machine and the running system."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from orderflow.cli.errors import ExitCode
from orderflow.cli.session import Session, session_options

if TYPE_CHECKING:
    from orderflow.cli.checks.verdict import Verdict


@click.command()
@session_options
def doctor(session: Session) -> None:
    """Check this machine and the running system; for each finding say what to do.

    Python and what is installed, the home and its disk, the ports, PostgreSQL with its limits, tables and clock,
    the services, Java and Maven for a local Kafka, Kafka where it carries the events. Nothing is changed.

    Exit code: 0 nothing failed (there may be warnings), 1 something did.

    \b
    orderflow doctor
    orderflow doctor --json | jq '.checks[] | select(.verdict == "failed")'
    """
    found: list[Verdict] = []
    for verdict in _checks(session):
        found.append(verdict)
        if not session.out.as_json:
            _show(session, verdict)
    failed = sum(verdict.verdict == "failed" for verdict in found)
    if session.out.as_json:
        session.out.document({"healthy": not failed, "checks": [asdict(verdict) for verdict in found]})
    else:
        session.out.show("", f"{failed} of {len(found)} checks failed" if failed else "Nothing failed")
    if failed:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _checks(session: Session) -> Iterator[Verdict]:
    from orderflow.cli.checks import database, kafka, machine, services

    given, running = session.settings, session.running
    yield machine.python()
    yield machine.dependencies()
    yield machine.home(given)
    yield machine.disk(given)
    yield from machine.ports(given)
    yield database.binaries(given)
    yield from database.databases(given, running)
    yield from services.services(running)
    yield kafka.local_kafka()
    yield from kafka.kafka(running)


def _show(session: Session, verdict: Verdict) -> None:
    from orderflow.cli.output import joined, text

    styles = {"ok": "green", "skipped": "dim", "warning": "yellow", "failed": "bold red"}
    style = styles[verdict.verdict]
    session.out.show(joined(text(f"{verdict.verdict:<8}", style), text(f" {verdict.check:<26}"), text(verdict.found)))
    if verdict.advice and verdict.verdict != "ok":
        session.out.show(text(f"{'':<35}{verdict.advice}", "dim"))
