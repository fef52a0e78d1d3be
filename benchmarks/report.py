"""The figures of a run, as a table for people and as plain data for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.idle import Idle
from benchmarks.latency import Latency
from benchmarks.parked import RATE, Parked, Quotient
from benchmarks.saga import Saga

PARTS = ("order", "payment", "inventory", "notification", "postgres", "kafka", "up", "load")


@dataclass(slots=True)
class Figures:
    """All figures of one system. Rates are per second; the floors and `sagas` were taken in turns."""

    transport: str
    ready_s: float
    floors: list[float] = field(default_factory=list)
    accept_floors: list[float] = field(default_factory=list)
    sagas: list[Saga] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    consume: float = 0.0
    consume_floor: float = 0.0
    consume_poison: float = 0.0
    idle: Idle | None = None
    parked: Parked | None = None
    promises_kept: bool = False

    def ratio(self) -> float:
        """The whole saga against the floor: the median over the rounds, each beside its own floor."""
        return median(saga.rate / floor for saga, floor in zip(self.sagas, self.floors, strict=True))

    def as_dict(self) -> dict[str, Any]:
        parked = self.parked.as_dict() if self.parked else None
        return {**asdict(self), "ratio": self.ratio(), "parked": parked}


def as_markdown(figures: Sequence[Figures]) -> str:
    """Two tables: the figures, and where the CPU time goes."""
    names = {"postgres": "log in PostgreSQL", "kafka": "Apache Kafka"}
    head = ["figure", *(names[each.transport] for each in figures)]
    lines = [[name, *(value(each) for each in figures)] for name, value in ROWS]
    cpu = [[part, *(_cpu(each, part) for each in figures)] for part in PARTS]
    return f"{table(head, lines)}\n\n{table(['CPU µs an order', *head[1:]], cpu)}"


def _cpu(figures: Figures, part: str) -> str:
    return f"{median(saga.cpu_us.get(part, 0) for saga in figures.sagas):.0f}"


def _latency(position: int) -> Callable[[Figures], str]:
    def show(figures: Figures) -> str:
        latency = figures.latencies[position]
        return f"{latency.p50_ms:.0f} / {latency.p99_ms:.0f} ms, {latency.cpu_share:.2f} cores"

    return show


def _parked(quotient: Callable[[Parked], Quotient]) -> Callable[[Figures], str]:
    return lambda figures: str(quotient(figures.parked)) if figures.parked else ""


def _idle(figures: Figures) -> str:
    idle = figures.idle
    return f"{100 * idle.cpu_share:.1f} % of a core, {idle.services_mb} MiB" if idle else ""


ROWS: Sequence[tuple[str, Callable[[Figures], str]]] = (
    ("whole saga, orders/s", lambda f: f"{median(saga.rate for saga in f.sagas):,.0f}"),
    ("floor: hand-written SQL, orders/s", lambda f: f"{median(f.floors):,.0f}"),
    ("**saga ÷ floor**", lambda f: f"**{f.ratio():.2f}**"),
    ("POST accepted while the saga runs, /s", lambda f: f"{median(saga.accepted_rate for saga in f.sagas):,.0f}"),
    ("floor of POST: group commit of the same rows, /s", lambda f: f"{median(f.accept_floors):,.0f}"),
    ("durable consume, events/s a process", lambda f: f"{f.consume:,.0f}"),
    ("the same with 1 in 500 refused by the database", lambda f: f"{f.consume_poison:,.0f}"),
    ("floor of consume, events/s", lambda f: f"{f.consume_floor:,.0f}"),
    ("POST → COMPLETED at 50/s, p50 / p99", _latency(0)),
    ("POST → COMPLETED at 200/s, p50 / p99", _latency(1)),
    ("with 1 % of keys parked ÷ without: orders/s of the healthy at saturation", _parked(Parked.rate)),
    ("with 1 % of keys parked ÷ without: CPU an order at saturation", _parked(Parked.cpu)),
    (f"with 1 % of keys parked ÷ without: p50 of the healthy at {RATE}/s", _parked(lambda parked: parked.time(0.50))),
    (f"with 1 % of keys parked ÷ without: p99 of the healthy at {RATE}/s", _parked(lambda parked: parked.time(0.99))),
    ("at rest; resident memory of the services", _idle),
    ("start, empty folder to ready, s", lambda f: f"{f.ready_s:.1f}"),
    ("the five promises", lambda f: "kept" if f.promises_kept else "BROKEN"),
)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))
