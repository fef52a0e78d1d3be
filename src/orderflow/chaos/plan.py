"""What befalls the system, when, whom and how long: decided by a seed before anything runs."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from orderflow.registry import SAGA

KILL, FREEZE, NETWORK, DISK, DUPLICATES = "kill", "freeze", "network", "disk", "duplicates"
POISON, CLOCK, DEPLOY, PARTITIONS, TOPICS = "poison", "clock", "deploy", "partitions", "topics"
KINDS: Final = (KILL, FREEZE, NETWORK, DISK, DUPLICATES, POISON, CLOCK, DEPLOY, PARTITIONS, TOPICS)
KAFKA_ONLY: Final = frozenset({PARTITIONS, TOPICS})
QUIET: Final = frozenset({PARTITIONS, TOPICS})
"""These are done while nothing else goes on, as the operations manual wants it."""

SERVICES: Final = SAGA
POSTGRES, BACKEND, BROKER, SUPERVISOR, EVERYTHING = "postgres", "backend", "broker", "up", "everything"
TROUBLES: Final = ("cut", "hold", "slow", "reset", "half-open")
CLIENT_LINK, BROKER_LINK = "client", "kafka"
SHORTEST_S, LONGEST_S = 1.0, 120.0
RECREATED: Final = "payment-status"
FIRST_AFTER, LAST_BEFORE = 0.06, 0.12
SHARE_OF_RUN = 0.08
WEIGHTS: Final = {
    KILL: 5,
    FREEZE: 5,
    NETWORK: 5,
    DISK: 1,
    DUPLICATES: 2,
    POISON: 1,
    CLOCK: 2,
    DEPLOY: 2,
}


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault. `at_s` from the beginning of the load; `lasts_s` 0 for what happens at one moment.

    `how` says what is done to `target`: a signal, a trouble of the network, seconds that a clock jumps.
    """

    number: int
    kind: str
    target: str
    at_s: float
    lasts_s: float
    how: str = ""
    amount: int = 0

    @property
    def words(self) -> str:
        """For people."""
        amount = f" {self.amount}" if self.amount else ""
        lasts = f" for {self.lasts_s:.0f} s" if self.lasts_s else ""
        return f"{self.kind} {self.target}{' ' + self.how if self.how else ''}{amount}{lasts}"


def plan(seed: int, seconds: float, kinds: Sequence[str], *, kafka: bool, brokers: int = 1) -> list[Planned]:
    """The faults of a run of so many seconds; every kind at least once. The same arguments give the same plan."""
    rng = random.Random(f"plan {seed}")  # noqa: S311  (a plan of faults, nothing secret)
    usable = [kind for kind in kinds if kafka or kind not in KAFKA_ONLY]
    longest_s = max(2 * SHORTEST_S, min(LONGEST_S, seconds * SHARE_OF_RUN))
    choose = _Chooser(rng, longest_s, kafka=kafka, brokers=brokers)
    order = _order(rng, usable)
    found: list[Planned] = []
    now, busy_until, last = seconds * FIRST_AFTER, 0.0, seconds * (1 - LAST_BEFORE)
    for number, kind in enumerate(order):
        if now > last and number >= len(usable):
            break
        alone = kind in QUIET
        fault = choose.fault(number + 1, kind, max(now, busy_until) if alone else now)
        found.append(fault)
        ends = fault.at_s + fault.lasts_s
        busy_until = max(busy_until, ends)
        now = fault.at_s + (longest_s if alone else _gap(rng, fault, longest_s))
    return found


def _order(rng: random.Random, usable: Sequence[str]) -> Iterator[str]:
    """Each kind once, the freeze first, then as their weights say, without end."""
    first = [kind for kind in usable if kind != FREEZE]
    rng.shuffle(first)
    yield from ([FREEZE] if FREEZE in usable else [])
    yield from first
    common = [kind for kind in usable if kind in WEIGHTS]
    while common:
        yield rng.choices(common, [WEIGHTS[kind] for kind in common])[0]


def _gap(rng: random.Random, fault: Planned, longest_s: float) -> float:
    """Seconds to the next fault: mostly after this one has ended, now and then while it lasts."""
    if rng.random() < 0.3:
        return max(SHORTEST_S, fault.lasts_s * rng.random())
    return fault.lasts_s + longest_s * (0.15 + 0.35 * rng.random())


class _Chooser:
    def __init__(self, rng: random.Random, longest_s: float, *, kafka: bool, brokers: int) -> None:
        self._rng = rng
        self._longest_s = longest_s
        self._kafka = kafka
        self._brokers = [BROKER if brokers == 1 else f"{BROKER}-{number + 1}" for number in range(brokers)]
        self._frozen: list[str] = []
        self._killed: list[str] = []
        self._troubles: list[tuple[str, str]] = []

    def fault(self, number: int, kind: str, at_s: float) -> Planned:
        target, lasts, how, amount = getattr(self, f"_{kind}")()
        return Planned(number, kind, target, round(at_s, 2), round(lasts, 2), how, amount)

    def _kill(self) -> tuple[str, float, str, int]:
        everyone = [*SERVICES, *SERVICES, POSTGRES, BACKEND, SUPERVISOR, EVERYTHING]
        everyone += self._brokers if self._kafka else []
        return self._next(self._killed, everyone), 0.0, "SIGKILL", 0

    def _freeze(self) -> tuple[str, float, str, int]:
        everyone = [*SERVICES, POSTGRES, BACKEND, SUPERVISOR]
        if self._kafka and not self._frozen:
            self._frozen.extend([*everyone, *self._brokers])
            self._rng.shuffle(self._frozen)
            broker = self._rng.choice(self._brokers)
            self._frozen.remove(broker)
            return broker, self._longest_s, "SIGSTOP", 0
        everyone += self._brokers if self._kafka else []
        return self._next(self._frozen, everyone), self._lasts(), "SIGSTOP", 0

    def _network(self) -> tuple[str, float, str, int]:
        links = [*(f"{name}-database" for name in (*SERVICES, "bank")), CLIENT_LINK]
        links.append(BROKER_LINK if self._kafka else "log-database")
        pairs = [(link, trouble) for link in links for trouble in TROUBLES]
        if not self._troubles:
            self._troubles.extend(self._rng.sample(pairs, len(pairs)))
        link, trouble = self._troubles.pop()
        amount = {"slow": self._rng.choice((20, 100, 500)), "reset": self._rng.choice((200, 5_000, 100_000))}
        return link, self._lasts(), trouble, amount.get(trouble, 0)

    def _disk(self) -> tuple[str, float, str, int]:
        return POSTGRES, min(20.0, max(4.0, self._lasts())), "full", 0

    def _duplicates(self) -> tuple[str, float, str, int]:
        topics = ("order-events", "payment-status", "inventory-status")
        return self._rng.choice(topics), 0.0, "produced again", self._rng.choice((50, 200, 500))

    def _poison(self) -> tuple[str, float, str, int]:
        topics = ("order-events", "payment-status", "inventory-status")
        return self._rng.choice(topics), 0.0, "records that cannot be read", self._rng.choice((1, 3, 5))

    def _clock(self) -> tuple[str, float, str, int]:
        seconds = self._rng.choice((2, 15, 90, 600)) * self._rng.choice((1, -1))
        return self._rng.choice(("services", POSTGRES)), self._lasts(), "jumps by", seconds

    def _deploy(self) -> tuple[str, float, str, int]:
        return "services", 0.0, "rolling: SIGTERM, one process after another", 0

    def _partitions(self) -> tuple[str, float, str, int]:
        return "all topics", 0.0, "two partitions more", 0

    def _topics(self) -> tuple[str, float, str, int]:
        return RECREATED, 0.0, "deleted, made again, published again", 0

    def _next(self, left: list[str], everyone: Sequence[str]) -> str:
        """Each of them once before anyone comes again."""
        if not left:
            left.extend(self._rng.sample(everyone, len(everyone)))
        return left.pop()

    def _lasts(self) -> float:
        """From a second to the longest, each order of magnitude alike."""
        return math.exp(self._rng.uniform(math.log(SHORTEST_S), math.log(self._longest_s)))
