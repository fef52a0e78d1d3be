"""The performance picture of the README, drawn from the figures of a run that was kept, for light and for dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.report import LOGS

PROJECT = Path(__file__).resolve().parents[1]
KEPT = PROJECT / "docs" / "performance.json"
IMAGES = PROJECT / "docs" / "images"
TEMPLATE = "performance.svg"
PARTS = ("order", "payment", "inventory", "notification", "postgres", "kafka")
BAR = 420.0
THEMES: Mapping[str, Mapping[str, str]] = {
    "light": {
        "ink": "#16191d",
        "muted": "#55606e",
        "line": "#d9dee5",
        "page": "#ffffff",
        "first": "#2557c7",
        "second": "#9db7ec",
        "order": "#2557c7",
        "payment": "#176e42",
        "inventory": "#8a5300",
        "notification": "#6b4fa0",
        "postgres": "#55606e",
        "kafka": "#b3261e",
    },
    "dark": {
        "ink": "#e7ebf0",
        "muted": "#9ba7b6",
        "line": "#2a323d",
        "page": "#0f1318",
        "first": "#8db2ff",
        "second": "#34507f",
        "order": "#8db2ff",
        "payment": "#63d19a",
        "inventory": "#f0b557",
        "notification": "#c0a5f5",
        "postgres": "#9ba7b6",
        "kafka": "#ff9088",
    },
}


class CannotDrawError(Exception):
    """The figures cannot be read. The message says what to do."""


class _Saga(msgspec.Struct, frozen=True):
    rate: float
    cpu_us: dict[str, float]


class _Latency(msgspec.Struct, frozen=True):
    p50_ms: float
    p99_ms: float


class _Figures(msgspec.Struct, frozen=True):
    transport: str
    floors: list[float]
    sagas: list[_Saga]
    latencies: dict[str, list[_Latency]]


class _Run(msgspec.Struct, frozen=True):
    """What is read of `python -m benchmarks --json`; `taken` says when and where, if somebody wrote it there."""

    figures: list[_Figures]
    taken: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a bar, in units of the picture. `tone` names a colour."""

    x: float
    width: float
    tone: str


@dataclass(frozen=True, slots=True)
class Bar:
    """`label` before it, `text` behind it."""

    label: str
    text: str
    pieces: Sequence[Piece]

    @property
    def end(self) -> float:
        return max((each.x + each.width for each in self.pieces), default=0.0)


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars that can be compared. `legend` names the tones of their pieces."""

    title: str
    hint: str
    bars: Sequence[Bar]
    legend: Sequence[str] = ()


def draw(kept: Path, folder: Path = IMAGES) -> Sequence[Path]:
    """Write `performance-light.svg` and `performance-dark.svg`. Raises CannotDrawError."""
    run = _read(kept)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    panels = panels_of(run.figures)
    written = []
    for theme, colours in THEMES.items():
        text = environment.get_template(TEMPLATE).render(panels=panels, colours=colours, taken=run.taken)
        written.append(folder / f"performance-{theme}.svg")
        written[-1].write_text(text, encoding="utf-8")
    return written


def _read(kept: Path) -> _Run:
    try:
        run = msgspec.json.decode(kept.read_bytes(), type=_Run)
    except OSError as error:
        raise CannotDrawError(
            f"{kept} cannot be read ({error.strerror}). Keep a run first: python -m benchmarks --json > {kept}"
        ) from error
    except msgspec.MsgspecError as error:
        raise CannotDrawError(f"{kept} has not the form of `python -m benchmarks --json`: {error}") from error
    if not run.figures:
        raise CannotDrawError(f"{kept} has no figures. Keep a run: python -m benchmarks --json > {kept}")
    return run


def panels_of(figures: Sequence[_Figures]) -> Sequence[Panel]:
    """Of the newest release that was measured on each log."""
    newest = {each.transport: each for each in figures}
    return (
        Panel("Orders a second", "the whole saga, beside the same as hand-written SQL", _rates(newest)),
        Panel("From POST to COMPLETED, in ms", "half of the orders / 99 of 100", _times(newest)),
        Panel("CPU time of one order, in µs", "of all processes, at saturation", _costs(newest), PARTS),
    )


def _rates(newest: Mapping[str, _Figures]) -> Sequence[Bar]:
    rows: list[tuple[str, float, str]] = []
    for transport, each in newest.items():
        rows.append((LOGS[transport], median(saga.rate for saga in each.sagas), "first"))
        rows.append(("hand-written SQL beside it", median(each.floors), "second"))
    wide = _scale(value for _, value, _ in rows)
    return [Bar(label, f"{value:,.0f}", [Piece(0, wide(value), tone)]) for label, value, tone in rows]


def _times(newest: Mapping[str, _Figures]) -> Sequence[Bar]:
    rows = [
        (f"{LOGS[transport]}, {rate}/s", median(each.p50_ms for each in taken), median(each.p99_ms for each in taken))
        for transport, figures in newest.items()
        for rate, taken in figures.latencies.items()
    ]
    wide = _scale(slow for _, _, slow in rows)
    return [
        Bar(
            label,
            f"{usual:.0f} / {slow:.0f}",
            [Piece(0, wide(usual), "first"), Piece(wide(usual), wide(slow) - wide(usual), "second")],
        )
        for label, usual, slow in rows
    ]


def _costs(newest: Mapping[str, _Figures]) -> Sequence[Bar]:
    costs = {
        transport: {part: median(saga.cpu_us.get(part, 0) for saga in each.sagas) for part in PARTS}
        for transport, each in newest.items()
    }
    wide = _scale(sum(each.values()) for each in costs.values())
    bars = []
    for transport, parts in costs.items():
        pieces, x = [], 0.0
        for part, cost in parts.items():
            pieces.append(Piece(x, wide(cost), part))
            x += wide(cost)
        bars.append(Bar(LOGS[transport], f"{sum(parts.values()):,.0f}", [each for each in pieces if each.width]))
    return bars


def _scale(values: Iterator[float]) -> Callable[[float], float]:
    largest = max(values, default=0.0) or 1.0
    return lambda value: round(BAR * value / largest, 1)
