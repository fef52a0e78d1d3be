"""The figures of a run, as a table for people and as plain data for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.cpu import SERVICES
from benchmarks.idle import Idle
from benchmarks.latency import Latency
from benchmarks.saga import Saga

if TYPE_CHECKING:
    from benchmarks.counting import Counted
    from benchmarks.parked import Parked, Quotient
    from benchmarks.peers import Peer

PARTS = (*SERVICES, "postgres", "kafka", "up", "load")
LOGS = {"postgres": "log in PostgreSQL", "kafka": "Apache Kafka"}


@dataclass(slots=True)
class Figures:
    """All figures of one release on one log. Rates are per second; a list has an entry a round.

    `lines` of Python are those that are neither blank nor a comment; `entered` says what each way through the code
    enters, where a release can trace it.
    """

    release: str
    transport: str
    lines: int = 0
    files: int = 0
    entered: dict[str, dict[str, int]] = field(default_factory=dict)
    ready_s: float = 0.0
    floors: list[float] = field(default_factory=list)
    accept_floors: list[float] = field(default_factory=list)
    sagas: list[Saga] = field(default_factory=list)
    latencies: dict[int, list[Latency]] = field(default_factory=dict)
    consume: dict[str, float] = field(default_factory=dict)
    consume_poison: float = 0.0
    command_ms: float = 0.0
    idle: Idle | None = None
    at_rest: Counted | None = None
    alone: Counted | None = None
    at_50: Counted | None = None
    parked: Parked | None = None
    promises_kept: bool = False

    def ratio(self) -> float:
        """The whole saga against the floor: the median over the rounds, each beside its own floor."""
        return median(saga.rate / floor for saga, floor in zip(self.sagas, self.floors, strict=True))

    def as_dict(self) -> dict[str, Any]:
        plain = {name: value for name, value in asdict(self).items() if name not in ("at_rest", "alone", "at_50")}
        counts = {
            name: {"round_trips": each.trips(), "transactions": each.transactions()}
            for name, each in (("at_rest", self.at_rest), ("alone", self.alone), ("at_50", self.at_50))
            if each is not None
        }
        return {
            **plain,
            "ratio": self.ratio(),
            "counts": counts,
            "parked": self.parked.as_dict() if self.parked else None,
        }


def as_markdown(figures: Sequence[Figures], peers: Sequence[Peer] = ()) -> str:
    """The figures, where the CPU time goes, and peers."""
    head = [f"{each.release}, {LOGS[each.transport]}" for each in figures]
    lines = [[name, *(value(each) for each in figures)] for name, value in ROWS]
    cpu = [[part, *(_cpu(each, part) for each in figures)] for part in PARTS]
    tables = [table(["figure", *head], lines), table(["CPU µs an order at saturation", *head], cpu)]
    if peers:
        beside = ["POST → done at 50/s, p50 / p99", "CPU an order at 50/s", "orders/s", "what is not there"]
        tables.append(table(["what one might pick instead", *beside], [each.row() for each in peers]))
    return "\n\n".join(tables)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def _cpu(figures: Figures, part: str) -> str:
    return f"{median(saga.cpu_us.get(part, 0) for saga in figures.sagas):.0f}"


def _latency(rate: int) -> Callable[[Figures], str]:
    def show(figures: Figures) -> str:
        rounds = figures.latencies[rate]
        p50, p99 = median(each.p50_ms for each in rounds), median(each.p99_ms for each in rounds)
        return f"{p50:.0f} / {p99:.0f} ms, {median(each.cpu_share for each in rounds):.2f} cores"

    return show


def _cpu_an_order(figures: Figures) -> str:
    rounds = figures.latencies[50]
    every = (
        median(sum(each.cpu_ms.values()) for each in rounds),
        median(each.cpu_ms.get("postgres", 0.0) for each in rounds),
        median(sum(each.cpu_ms.get(name, 0.0) for name in SERVICES) for each in rounds),
    )
    return " / ".join(f"{each:.1f}" for each in every) + " ms"


def _counted(
    moment: Callable[[Figures], Counted | None], value: Callable[[Counted], dict[str, float]]
) -> Callable[[Figures], str]:
    def show(figures: Figures) -> str:
        counted = moment(figures)
        if counted is None:
            return "not counted"
        by_database = value(counted)
        return f"{sum(by_database.values()):.1f} / {by_database.get('log', 0.0):.1f}"

    return show


def _trips(counted: Counted) -> dict[str, float]:
    return counted.trips()


def _transactions(counted: Counted) -> dict[str, float]:
    return counted.transactions()


def _consume(name: str) -> Callable[[Figures], str]:
    return lambda figures: f"{figures.consume[name]:,.0f}"


def _parked(quotient: Callable[[Parked], Quotient]) -> Callable[[Figures], str]:
    return lambda figures: str(quotient(figures.parked)) if figures.parked else ""


def _idle(figures: Figures) -> str:
    idle = figures.idle
    return f"{100 * idle.cpu_share:.1f} % of a core, {idle.services_mb} MiB" if idle else ""


def _entered(figures: Figures) -> str:
    return " / ".join(str(way["most"]) for way in figures.entered.values()) or "not traced"


def _by_service(figures: Figures) -> str:
    trips = figures.alone.trips() if figures.alone else {}
    return " / ".join(f"{trips[name]:.1f}" for name in SERVICES if name in trips) or "not counted"


ROWS: Sequence[tuple[str, Callable[[Figures], str]]] = (
    ("files entered: POST to COMMIT / record to offset / poison to replay", _entered),
    ("source: lines / files", lambda f: f"{f.lines:,} / {f.files}"),
    ("round trips an order alone: all / log's database", _counted(lambda f: f.alone, _trips)),
    (f"round trips an order alone: {' / '.join(SERVICES)}", _by_service),
    ("round trips an order at 50/s: all / log's database", _counted(lambda f: f.at_50, _trips)),
    ("transactions an order alone: all / log's database", _counted(lambda f: f.alone, _transactions)),
    ("transactions an order at 50/s: all / log's database", _counted(lambda f: f.at_50, _transactions)),
    ("CPU an order at 50/s: all / PostgreSQL / services", _cpu_an_order),
    ("POST → COMPLETED at 50/s, p50 / p99", _latency(50)),
    ("POST → COMPLETED at 200/s, p50 / p99", _latency(200)),
    ("whole saga, orders/s", lambda f: f"{median(saga.rate for saga in f.sagas):,.0f}"),
    ("floor: hand-written SQL, orders/s", lambda f: f"{median(f.floors):,.0f}"),
    ("**saga ÷ floor**", lambda f: f"**{f.ratio():.2f}**"),
    ("POST accepted while the saga runs, /s", lambda f: f"{median(saga.accepted_rate for saga in f.sagas):,.0f}"),
    ("floor of POST: group commit of the same rows, /s", lambda f: f"{median(f.accept_floors):,.0f}"),
    ("durable consume, events/s a process", _consume("consume")),
    ("the same with 1 in 500 refused by the database", lambda f: f"{f.consume_poison:,.0f}"),
    ("floor of consume, events/s", _consume("floor")),
    ("CPU of one command that asks a service", lambda f: f"{f.command_ms:.0f} ms"),
    ("at rest: round trips a second, all / log's database", _counted(lambda f: f.at_rest, _trips)),
    ("at rest; resident memory of the services", _idle),
    ("with 1 % of keys parked ÷ without: orders/s of the healthy at saturation", _parked(lambda p: p.rate())),
    ("with 1 % of keys parked ÷ without: CPU an order at saturation", _parked(lambda p: p.cpu())),
    ("with 1 % of keys parked ÷ without: p50 of the healthy at 20/s", _parked(lambda p: p.time(0.50))),
    ("with 1 % of keys parked ÷ without: p99 of the healthy at 20/s", _parked(lambda p: p.time(0.99))),
    ("start, empty folder to ready, s", lambda f: f"{f.ready_s:.1f}"),
    ("the five promises", lambda f: "kept" if f.promises_kept else "BROKEN"),
)
