"""An audit's report, for people and for programs, and `--watch`: what is new in it and what is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from orderflow.audit.findings import Finding, FindingGroup, Kind, Report, grouped
from orderflow.audit.live import Scope
from orderflow.cli.errors import ExitCode, counted
from orderflow.cli.output import Output, pause, text, words
from orderflow.cli.session import Session
from orderflow.cli.tables import clock_of_ms, entry, moment, now_ms

if TYPE_CHECKING:
    from rich.console import RenderableType

PROMISES = {
    1: "nothing is lost",
    2: "nothing happens twice",
    3: "nothing illegal is stored",
    4: "nothing blocks its neighbours",
    5: "the books balance",
}
SHOWN = 5
"""Subjects of a kind that are named for a person."""
TEXT_MAX = 300


def document(report: Report) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "kept": report.count == 0,
        "at_rest": report.at_rest,
        "orders": report.orders,
        "statuses": report.statuses,
        "stuck": report.stuck,
        "refunded_by_word": report.refunded_by_word,
        "waiting": dict(report.waiting),
        "under_way": report.under_way,
        "judged": report.judged,
        "records": report.records,
        "took_s": round(report.took_s, 3),
        "count": report.count,
        "kinds": [_kind(group) for group in grouped(report.findings)],
        "findings": [finding_document(finding) for finding in report.findings],
    }


def finding_document(finding: Finding) -> dict[str, Any]:
    """One finding, for programs."""
    return {
        "kind": finding.kind.value,
        "promise": int(finding.promise),
        "subject": finding.subject,
        "what": finding.what,
        "where": finding.where,
        "since": finding.since.isoformat() if finding.since else None,
        "event": finding.event,
        "expected": finding.expected,
        "found": finding.found,
    }


def parts(report: Report) -> Iterator[RenderableType]:
    """Everything, for people."""
    yield from _counts(report)
    broken = {int(finding.promise) for finding in report.findings}
    for number, promise in PROMISES.items():
        yield f"  {number}. {promise}: {_verdict(number, broken, report)}"
    for group in grouped(report.findings):
        yield ""
        yield from group_parts(group)
    if report.count > len(report.findings):
        yield f"{report.count - len(report.findings)} more were found."


def group_parts(group: FindingGroup) -> Iterator[RenderableType]:
    """What, how many, since when, where, which, and what to do."""
    first, subjects = group.findings[0], group.subjects
    head = (text(group.kind.value, "red"), text(f"promise {int(group.info.promise)}"), text(group.info.what))
    more = f" and {len(subjects) - SHOWN} more" if len(subjects) > SHOWN else ""
    since = f", since {moment(group.since.isoformat())}" if group.since else ""
    where = f", in {'; '.join(group.where[:SHOWN])}" if group.where else ""
    below = (
        text(f"{counted(len(group.findings), 'finding')}{since}{where}"),
        text(f"{', '.join(subjects[:SHOWN])}{more}"),
        text(f"expected {first.expected[:TEXT_MAX]}, found {first.found[:TEXT_MAX]}"),
        text(f"do: {group.remedy}"),
    )
    yield from entry(head, below)


def _counts(report: Report) -> Iterator[RenderableType]:
    outcomes = ", ".join(f"{count} {status}" for status, count in sorted(report.statuses.items())) or "none"
    rate = f" ({report.orders / report.took_s:,.0f} orders/s)" if report.took_s else ""
    yield f"{counted(report.orders, 'order')}: {outcomes}; compared in {report.took_s:.1f} s{rate}."
    if report.records:
        yield f"{counted(report.records, 'record')} on the topics were compared with the outboxes."
    if report.under_way:
        yield f"{counted(report.under_way, 'order')} under way."
    if any(report.waiting.values()):
        yield f"events that wait: {words(report.waiting)}; see them with: orderflow dlt list --state all"
    if report.stuck:
        yield (
            f"{counted(report.stuck, 'order')} in need of an operator: see them with orderflow dlt list, "
            "and orderflow payment list --state refund_refused"
        )
    if report.refunded_by_word:
        orders = counted(report.refunded_by_word, "order")
        yield f"{orders} refunded according to an operator: the bank's book has no refund."


def _kind(group: FindingGroup) -> dict[str, Any]:
    return {
        "kind": group.kind.value,
        "promise": int(group.info.promise),
        "what": group.info.what,
        "remedy": group.remedy,
        "repairable": group.info.repair,
        "count": len(group.findings),
        "since": group.since.isoformat() if group.since else None,
        "where": list(group.where),
        "subjects": list(group.subjects),
    }


def _verdict(number: int, broken: set[int], report: Report) -> str:
    if number in broken:
        return "NOT KEPT"
    return "kept" if report.at_rest else "kept so far"


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
            pause(every_s)
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
