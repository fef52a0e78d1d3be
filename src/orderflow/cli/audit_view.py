"""An audit's report, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from orderflow.audit.findings import Finding, Group, Report, grouped
from orderflow.cli.counts import words
from orderflow.cli.output import text
from orderflow.cli.plain import counted
from orderflow.cli.tables import entry
from orderflow.cli.times import moment

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


def group_parts(group: Group) -> Iterator[RenderableType]:
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
        yield f"{orders} refunded by an operator's word: the bank's book has no refund."


def _kind(group: Group) -> dict[str, Any]:
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
