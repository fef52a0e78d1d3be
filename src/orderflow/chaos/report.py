"""What a run found, as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from orderflow.chaos.history import VERDICTS
from orderflow.chaos.picture import picture
from orderflow.chaos.run import Outcome
from orderflow.chaos.samples import percentile

SHOWN = 40
MEANINGS: Final = {
    "lost": "an order that was accepted is gone, or an event that was numbered never came",
    "doubled": "one key made two orders, a refused one is there, or an effect happened twice",
    "reordered": "an event of a key came after a later one",
    "adrift": "an order, its money or the stock is not what it must be, or went back",
    "stuck": "something did not come to rest, or is not well afterwards",
}


def write(outcome: Outcome, folder: Path) -> dict[str, Path]:
    """`report.txt`, `report.json` and `report.svg` in `folder`. Raises OSError."""
    texts = {
        "report.txt": "\n".join(lines(outcome)) + "\n",
        "report.json": json.dumps(document(outcome), indent=1) + "\n",
        "report.svg": picture(outcome),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return {name: folder / name for name in texts}


def lines(outcome: Outcome) -> Iterator[str]:
    """The report for people."""
    verdict, wish = outcome.verdict, outcome.wish
    counts = ", ".join(f"{word} {count}" for word, count in verdict.counts.items())
    yield f"{'All promises kept' if verdict.passed else 'NOT all promises kept'}: {counts}"
    yield ""
    log = f"Kafka with {wish.brokers} broker{'s' if wish.brokers > 1 else ''}" if wish.kafka else "the PostgreSQL log"
    yield f"{outcome.seconds:.0f} s on {log}, {wish.rate:g} orders/s wanted, seed {wish.seed}"
    yield from _load(outcome)
    yield ""
    yield f"Faults: {_faults(outcome)}"
    for kind, why in outcome.without.items():
        yield f"  left out, {kind}: {why}"
    for each in outcome.happened:
        ended = "   -   " if each.ended_s is None else f"{each.ended_s:7.1f}"
        note = f" ({each.note})" if each.note else ""
        yield f"  {each.began_s:7.1f} to {ended} s  {each.planned.words}{'' if each.done else ', LEFT OUT'}{note}"
    if verdict.troubles:
        yield ""
        yield "What must not be:"
    for trouble in verdict.troubles[:SHOWN]:
        yield f"  {trouble.verdict}: {trouble.subject}: {trouble.what}"
    if len(verdict.troubles) > SHOWN:
        yield f"  and {len(verdict.troubles) - SHOWN} more, all of them in report.json"


def document(outcome: Outcome) -> dict[str, Any]:
    """The report for programs."""
    verdict = outcome.verdict
    return {
        "passed": verdict.passed,
        "verdict": verdict.counts,
        "meanings": {word: MEANINGS[word] for word in VERDICTS},
        "wish": asdict(outcome.wish),
        "seconds": round(outcome.seconds, 1),
        "orders": {
            "in_the_service": verdict.orders,
            "by_status": dict(verdict.statuses),
            "by_answer": dict(verdict.outcomes),
            "not_sent": outcome.not_sent,
        },
        "requests": dict(outcome.requests),
        "events": {
            "records": outcome.topics.records,
            "distinct": outcome.topics.types.total(),
            "repeated": outcome.topics.repeated,
            "by_type": dict(outcome.topics.types),
            "dead_letters": outcome.topics.letters,
            "poison_sent": outcome.poisoned,
        },
        "latency_ms": _latencies(outcome),
        "rest_after_s": round(verdict.rest_s, 1),
        "left_out": dict(outcome.without),
        "plan": [asdict(each) for each in outcome.planned],
        "faults": [asdict(each) for each in outcome.happened],
        "troubles": [asdict(each) for each in verdict.troubles],
        "slices": {"seconds": outcome.slice_s, "of": [_slice(outcome, each) for each in range(len(outcome.slices))]},
    }


def _load(outcome: Outcome) -> Iterator[str]:
    verdict, topics = outcome.verdict, outcome.topics
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(verdict.statuses.items()))
    answers = ", ".join(f"{count} {answer}" for answer, count in sorted(verdict.outcomes.items()))
    yield f"Orders: {verdict.orders} ({statuses}); as the client knows: {answers}"
    yield (
        f"Events: {topics.records} records on the topics, {topics.types.total()} distinct events, "
        f"{topics.repeated} repeated; {topics.letters} dead letters of {outcome.poisoned} poisonous records"
    )
    told = [
        f"{name} p50 {found['p50']} / p99 {found['p99']} ms" for name, found in _latencies(outcome).items() if found
    ]
    yield f"Latency, faults and all: {', '.join(told)}; at rest {verdict.rest_s:.0f} s after the last fault"


def _faults(outcome: Outcome) -> str:
    done = Counter(each.planned.kind for each in outcome.happened if each.done)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(done.items())) or "none"


def _latencies(outcome: Outcome) -> dict[str, dict[str, int] | None]:
    every = {
        "accepted": [value for each in outcome.slices for value in each.accepted_ms],
        "ended": [value for each in outcome.slices for value in each.ended_ms],
    }
    return {name: _percentiles(values) for name, values in every.items()}


def _percentiles(values: list[float]) -> dict[str, int] | None:
    if not values:
        return None
    return {f"p{share * 100:.0f}": round(percentile(values, share) or 0) for share in (0.5, 0.99)}


def _slice(outcome: Outcome, number: int) -> dict[str, Any]:
    each = outcome.slices[number]
    return {
        "at_s": each.at_s,
        "placed": each.placed,
        "ended": round(each.ended, 1),
        "under_way": each.under_way,
        "accepted_ms": _percentiles(each.accepted_ms),
        "ended_ms": _percentiles(each.ended_ms),
    }
