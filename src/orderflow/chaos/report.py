"""What a run found: as text for people, as JSON for programs, and as a picture (SVG 1.1)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from orderflow.chaos.client import VERDICTS
from orderflow.chaos.judge import Slice, percentile
from orderflow.chaos.nemesis import InjectedFault
from orderflow.chaos.run import ChaosResult

WIDTH, LEFT, RIGHT = 1100, 130, 24
PANEL, GAP, TOP = 150, 54, 84
LANE, BAR = 18, 12
NARROWEST = 3.0
STYLE: Final = """
  :root { color-scheme: light dark; }
  .back { fill: #ffffff; } .ink { fill: #1f2328; } .soft { fill: #59636e; }
  .grid { stroke: #d1d9e0; stroke-width: 1; } .band { fill: #f6f8fa; }
  .a { stroke: #0969da; fill: none; stroke-width: 1.6; } .b { stroke: #bc4c00; fill: none; stroke-width: 1.6; }
  .a-key { fill: #0969da; } .b-key { fill: #bc4c00; } .left-out { fill: none; stroke: #59636e; }
  .kill { fill: #cf222e; } .freeze { fill: #0550ae; } .network { fill: #8250df; } .disk { fill: #953800; }
  .duplicates { fill: #116329; } .poison { fill: #4d2d00; } .clock { fill: #1b7c83; } .deploy { fill: #57606a; }
  .partitions { fill: #9a6700; } .topics { fill: #bf3989; }
  text { font: 12px system-ui, sans-serif; } .title { font-size: 17px; font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    .back { fill: #0d1117; } .ink { fill: #e6edf3; } .soft { fill: #9198a1; }
    .grid { stroke: #3d444d; } .band { fill: #151b23; }
    .a { stroke: #4493f8; } .b { stroke: #f0883e; } .a-key { fill: #4493f8; } .b-key { fill: #f0883e; }
    .left-out { stroke: #9198a1; }
    .kill { fill: #f85149; } .freeze { fill: #79c0ff; } .network { fill: #bc8cff; } .disk { fill: #ffa657; }
    .duplicates { fill: #56d364; } .poison { fill: #d4a72c; } .clock { fill: #39c5cf; } .deploy { fill: #8b949e; }
    .partitions { fill: #e3b341; } .topics { fill: #f778ba; }
  }
"""

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Series:
    """A value for each slice, None where there is none. `style` is its class in the style sheet.

    `bridges`: over so many slices without a value the line goes on.
    """

    label: str
    style: str
    values: Values
    bridges: int = 0


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over one axis; `logarithmic` for what spans orders of magnitude."""

    title: str
    lines: Sequence[Series]
    logarithmic: bool = False


def picture(outcome: ChaosResult) -> str:
    """A document that follows the reader's light or dark colours."""
    whole_s = outcome.seconds + outcome.verdict.rest_s
    slices = [each for each in outcome.slices if each.at_s < whole_s]
    kinds = sorted({each.planned.kind for each in outcome.happened}, key=_first(outcome.happened))
    lanes = _lanes(outcome.happened, kinds)
    panels = _panels(slices, outcome.slice_s)
    lanes_top = TOP + len(panels) * (PANEL + GAP)
    height = lanes_top + max(1, sum(lanes.values())) * LANE + 60

    def x(seconds: float) -> float:
        return LEFT + seconds / whole_s * (WIDTH - LEFT - RIGHT)

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            f'aria-label="Chaos: rates, latencies, backlog and faults over time">'
        ),
        f"<style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{height}"/>',
        *_head(outcome),
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, TOP + number * (PANEL + GAP), x, outcome.slice_s)
    parts += _draw_faults(outcome.happened, lanes, lanes_top, x, whole_s)
    parts += _times(whole_s, x, TOP, lanes_top + max(1, sum(lanes.values())) * LANE)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panels(slices: Sequence[Slice], seconds: float) -> list[Panel]:
    def of(values: Callable[[Slice], Sequence[float]], share: float) -> Values:
        return [percentile(values(each), share) for each in slices]

    return [
        Panel(
            "orders a second",
            (
                Series("accepted", "a", [each.placed / seconds for each in slices]),
                Series("ended", "b", [each.ended / seconds for each in slices]),
            ),
        ),
        Panel(
            "ms until accepted",
            (
                Series("p50", "a", of(lambda each: each.accepted_ms, 0.5)),
                Series("p99", "b", of(lambda each: each.accepted_ms, 0.99)),
            ),
            logarithmic=True,
        ),
        Panel(
            "ms until ended",
            (
                Series("p50", "a", of(lambda each: each.ended_ms, 0.5)),
                Series("p99", "b", of(lambda each: each.ended_ms, 0.99)),
            ),
            logarithmic=True,
        ),
        Panel(
            "events under way",
            (Series("lag, outboxes, open questions", "b", [each.under_way for each in slices], bridges=8),),
        ),
    ]


def _head(outcome: ChaosResult) -> Iterator[str]:
    verdict, wish = outcome.verdict, outcome.wish
    counts = ", ".join(f"{word} {count}" for word, count in verdict.counts.items())
    log = f"Kafka, {wish.brokers} broker{'s' if wish.brokers > 1 else ''}" if wish.kafka else "the PostgreSQL log"
    yield f'<text class="ink title" x="{LEFT}" y="30">{escape(counts)}</text>'
    amounts = f"{verdict.orders:,} orders, {outcome.topics.types.total():,} events"
    said = f"{amounts}, {outcome.seconds:,.0f} s on {log}, seed {wish.seed}"
    yield f'<text class="soft" x="{LEFT}" y="50">{escape(said)}</text>'


def _panel(panel: Panel, top: float, x: Callable[[float], float], slice_s: float) -> Iterator[str]:
    known = [value for line in panel.lines for value in line.values if value is not None]
    highest = _ceiling(max(known, default=1.0), logarithmic=panel.logarithmic)
    ticks = _ticks(highest, logarithmic=panel.logarithmic)
    lowest = ticks[0]

    def y(value: float) -> float:
        if panel.logarithmic:
            low, high = math.log10(lowest), math.log10(highest)
            share = (math.log10(max(value, lowest)) - low) / (high - low)
        else:
            share = value / highest
        return top + PANEL * (1 - min(1.0, share))

    yield f'<rect class="band" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL}"/>'
    for tick in ticks:
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        yield f'<text class="soft" x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,.0f}</text>'
    yield f'<text class="ink" x="{LEFT}" y="{top - 10}">{escape(panel.title)}</text>'
    at = LEFT + 160
    for line in panel.lines:
        yield f'<rect class="{line.style}-key" x="{at}" y="{top - 18}" width="12" height="4"/>'
        yield f'<text class="soft" x="{at + 18}" y="{top - 10}">{escape(line.label)}</text>'
        at += 40 + 7 * len(line.label)
        yield f'<path class="{line.style}" d="{_path(line, x, y, slice_s)}"/>'


def _path(line: Series, x: Callable[[float], float], y: Callable[[float], float], slice_s: float) -> str:
    """Broken where there is no value."""
    steps: list[str] = []
    pen, missing = "M", 0
    for number, value in enumerate(line.values):
        if value is None:
            missing += 1
            pen = "M" if missing > line.bridges else pen
            continue
        missing = 0
        steps.append(f"{pen}{x((number + 0.5) * slice_s):.1f} {y(value):.1f}")
        # A value that stands alone is seen as a dot.
        steps.extend(["h0.1"] if pen == "M" else [])
        pen = "L"
    return "".join(steps)


def _draw_faults(
    happened: Sequence[InjectedFault],
    lanes: dict[str, int],
    top: float,
    x: Callable[[float], float],
    whole_s: float,
) -> Iterator[str]:
    """A bar each, in the lanes of its kind; those that overlap lie below each other."""
    starts: dict[str, float] = {}
    at = top
    for kind, count in lanes.items():
        starts[kind] = at
        yield f'<text class="ink" x="{LEFT - 8}" y="{at + BAR}" text-anchor="end">{escape(kind)}</text>'
        at += count * LANE
    for each, lane in _placed(happened):
        begins, ends = x(each.began_s), x(whole_s if each.ended_s is None else min(each.ended_s, whole_s))
        style = each.planned.kind if each.done else "left-out"
        yield (
            f'<rect class="{style}" x="{begins:.1f}" y="{starts[each.planned.kind] + lane * LANE + 2}" '
            f'width="{max(NARROWEST, ends - begins):.1f}" height="{BAR}" rx="1.5">'
            f"<title>{each.began_s:.0f} s: {escape(each.planned.words)}</title></rect>"
        )


def _times(whole_s: float, x: Callable[[float], float], top: float, bottom: float) -> Iterator[str]:
    step = next((each for each in (10, 30, 60, 300, 600, 1200) if whole_s / each <= 13), 3600)
    for number in range(int(whole_s // step) + 1):
        at, seconds = x(number * step), number * step
        label = f"{seconds // 60} min" if step >= 60 else f"{seconds} s"
        yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}" stroke-dasharray="2 4"/>'
        yield f'<text class="soft" x="{at:.1f}" y="{bottom + 20}" text-anchor="middle">{label}</text>'


def _lanes(happened: Sequence[InjectedFault], kinds: Sequence[str]) -> dict[str, int]:
    """Kind and how many of it went on at once."""
    needed = dict.fromkeys(kinds, 1)
    for each, lane in _placed(happened):
        needed[each.planned.kind] = max(needed[each.planned.kind], lane + 1)
    return needed


def _placed(happened: Sequence[InjectedFault]) -> Iterator[tuple[InjectedFault, int]]:
    """Each fault and the first lane of its kind that is free."""
    busy: dict[str, list[float]] = {}
    for each in happened:
        lanes = busy.setdefault(each.planned.kind, [])
        lane = next((number for number, until in enumerate(lanes) if until <= each.began_s), len(lanes))
        lanes[lane : lane + 1] = [math.inf if each.ended_s is None else each.ended_s]
        yield each, lane


def _first(happened: Sequence[InjectedFault]) -> Callable[[str], int]:
    order = [each.planned.kind for each in happened]
    return order.index


def _ceiling(value: float, *, logarithmic: bool) -> float:
    """The next round number."""
    magnitude = 10.0 ** math.floor(math.log10(max(value, 1.0)))
    if logarithmic:
        return max(100.0, magnitude * 10)
    return next(magnitude * step for step in (1, 2, 2.5, 5, 10) if value <= magnitude * step)


def _ticks(highest: float, *, logarithmic: bool) -> list[float]:
    if logarithmic:
        return [10.0**power for power in range(int(math.log10(highest)) + 1)]
    return [highest * share for share in (0.0, 0.5, 1.0)]


SHOWN = 40
MEANINGS: Final = {
    "lost": "an order that was accepted is gone, or an event that was numbered never came",
    "doubled": "one key made two orders, a refused one is there, or an effect happened twice",
    "reordered": "an event of a key came after a later one",
    "adrift": "an order, its money or the stock is not what it must be, or went back",
    "stuck": "something did not come to rest, or is not well afterwards",
}


def write(outcome: ChaosResult, folder: Path) -> dict[str, Path]:
    """`report.txt`, `report.json` and `report.svg` in `folder`. Raises OSError."""
    texts = {
        "report.txt": "\n".join(lines(outcome)) + "\n",
        "report.json": json.dumps(document(outcome), indent=1) + "\n",
        "report.svg": picture(outcome),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return {name: folder / name for name in texts}


def lines(outcome: ChaosResult) -> Iterator[str]:
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


def document(outcome: ChaosResult) -> dict[str, Any]:
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


def _load(outcome: ChaosResult) -> Iterator[str]:
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


def _faults(outcome: ChaosResult) -> str:
    done = Counter(each.planned.kind for each in outcome.happened if each.done)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(done.items())) or "none"


def _latencies(outcome: ChaosResult) -> dict[str, dict[str, int] | None]:
    every = {
        "accepted": [value for each in outcome.slices for value in each.accepted_ms],
        "ended": [value for each in outcome.slices for value in each.ended_ms],
    }
    return {name: _percentiles(values) for name, values in every.items()}


def _percentiles(values: list[float]) -> dict[str, int] | None:
    if not values:
        return None
    return {f"p{share * 100:.0f}": round(percentile(values, share) or 0) for share in (0.5, 0.99)}


def _slice(outcome: ChaosResult, number: int) -> dict[str, Any]:
    each = outcome.slices[number]
    return {
        "at_s": each.at_s,
        "placed": each.placed,
        "ended": round(each.ended, 1),
        "under_way": each.under_way,
        "accepted_ms": _percentiles(each.accepted_ms),
        "ended_ms": _percentiles(each.ended_ms),
    }
