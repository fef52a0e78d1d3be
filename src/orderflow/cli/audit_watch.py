"""`orderflow audit --watch`: looks again and again, and tells what is new and what is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from uuid import UUID

import click

from orderflow.audit.findings import Finding, Kind, Report, grouped
from orderflow.audit.live import Scope
from orderflow.cli.audit_view import finding_document, group_parts
from orderflow.cli.errors import ExitCode
from orderflow.cli.output import Output, text
from orderflow.cli.plain import counted
from orderflow.cli.session import Session
from orderflow.cli.times import clock_of_ms, now_ms

RECENT_MS = 600_000
"""Orders placed so long before a look are looked at again by the next one."""
WHOLE_EVERY = 20
"""Every so many looks all orders and the topics are gone over."""

OF_TOPICS = frozenset(
    {
        Kind.RECORD_MISSING,
        Kind.RECORD_FORGED,
        Kind.RECORD_ALTERED,
        Kind.RECORDS_OUT_OF_ORDER,
        Kind.DEAD_LETTER_MISSING,
        Kind.DEAD_LETTER_UNKNOWN,
        Kind.OFFSET_OUT_OF_RANGE,
    }
)

Name = tuple[Kind, str]
Look = Callable[[Scope], Report]


def watch(session: Session, every_s: float, look: Look, *, topics: bool) -> None:
    """Until Ctrl-C; then the exit code is 1 if the last look found something.

    The first look goes over everything, and so does every twentieth; the others go over the orders that are new
    since, and over those that were not at their end or had something found of them.
    """
    watching = Watching(session.out, topics=topics)
    try:
        while True:
            watching.tell(look(watching.scope()))
            time.sleep(every_s)
    except KeyboardInterrupt:
        if watching.known:
            raise click.exceptions.Exit(ExitCode.FAILED) from None


class Watching:
    """What is known so far. A look that did not go over all orders forgets nothing of those that it left out."""

    def __init__(self, out: Output, *, topics: bool) -> None:
        self._out = out
        self._topics = topics
        self._looks = 0
        self._begun_ms = 0.0
        self._suspects: frozenset[str] = frozenset()
        self.known: dict[Name, Finding] = {}

    def scope(self) -> Scope:
        """What the next look goes over."""
        before_ms, self._begun_ms = self._begun_ms, now_ms()
        self._looks += 1
        if self._is_whole():
            return Scope(topics=self._topics)
        after = UUID(int=max(0, int(before_ms - RECENT_MS)) << 80)
        return Scope(after, self._suspects, topics=False)

    def tell(self, report: Report) -> None:
        """What is new, and what is gone."""
        found = {(finding.kind, finding.subject): finding for finding in report.findings}
        if not self._is_whole():
            found = {name: each for name, each in self.known.items() if name[0] in OF_TOPICS} | found
        new = [each for name, each in found.items() if name not in self.known]
        gone = [each for name, each in self.known.items() if name not in found]
        self.known, self._suspects = found, report.suspects
        if self._out.as_json:
            self._tell_program(report, new, gone)
        else:
            self._tell_person(report, new, gone)

    def _is_whole(self) -> bool:
        return self._looks % WHOLE_EVERY == 1

    def _tell_program(self, report: Report, new: Iterable[Finding], gone: Iterable[Finding]) -> None:
        said = {"new": [finding_document(each) for each in new], "gone": [finding_document(each) for each in gone]}
        state = {"orders": report.orders, "at_rest": report.at_rest, "under_way": report.under_way}
        self._out.line({"at_ms": int(self._begun_ms), **state, "count": len(self.known), **said})

    def _tell_person(self, report: Report, new: list[Finding], gone: list[Finding]) -> None:
        for group in grouped(new):
            self._out.show(*group_parts(group))
        for group in grouped(gone):
            subjects = ", ".join(group.subjects[:3]) + (" ..." if len(group.subjects) > 3 else "")
            self._out.show(text(f"gone: {group.kind}, {len(group.findings)}: {subjects}", "green"))
        if new or gone or self._looks == 1:
            at, found = clock_of_ms(int(self._begun_ms)), counted(len(self.known), "finding")
            state = "at rest" if report.at_rest else "orders are under way"
            self._out.show(text(f"{at}: {counted(report.orders, 'order')}, {state}; {found}"))
