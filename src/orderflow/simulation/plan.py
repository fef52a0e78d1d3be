"""What a seed stands for: how large the world is, and what befalls it. And a plan as a short text.

Every seed draws which kinds of faults it has at all (swarm testing: Groce et al., ISSTA 2012): a world in which
everything fails at once hides what a world with one kind of fault shows. `27,orders=1,focus=commit` is the plan of
seed 27 with what was changed since.
"""

from __future__ import annotations

import math
import random
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum, StrEnum
from functools import partial
from typing import Any, NamedTuple, NewType, get_args, get_origin, get_type_hints

from orderflow.core.engine import EngineConfig
from orderflow.registry import SAGA
from orderflow.simulation.loop import seeded

STORE_STEPS = (
    "begin",
    "open",
    "opened",
    "commit",
    "committed",
    "due_keys",
    "claim_intents",
    "claim_slots",
    "unsent",
    "mark_sent",
)
TRANSPORT_STEPS = ("append", "appended", "poll", "commit_offsets")
BANK_STEPS = ("charge", "charged", "refund", "refunded", "count_call")
STEPS = (*STORE_STEPS, *TRANSPORT_STEPS, *BANK_STEPS)


SERVICES = SAGA


class ProcessFault(StrEnum):
    """What can happen to one process at one step."""

    CRASH = "crash"
    ERROR = "error"
    DELAY = "delay"


class Trouble(StrEnum):
    """What can happen to the world at a moment."""

    KILL = "kill a process"
    DRAIN = "restart a process in good order"
    DATABASE_AWAY = "take a database away"
    LOG_AWAY = "take the log away"
    BANK_AWAY = "take the bank away"
    BANK_MUTE = "lose answers of the bank"
    REWIND = "rewind a group"
    STALL = "let a member miss its heartbeats"
    DUPLICATE = "append records of the past again"
    SLOW_PARTITION = "deliver a partition late"
    REFUSE = "let a database refuse an order"
    POISON = "append a record that nobody can read"
    POISONS = "append many alike records that nobody can read"
    STRANGERS = "append many events of orders that nobody placed"
    REFUSE_ALL = "let a database refuse everything"
    REFUSE_MOST = "let a database refuse most orders"
    UNSERVED = "serve a member no more"
    CLOCK = "set the clock of a process"
    RETIRE = "end a process for good"
    RESTOCK = "state the free units anew"
    OPERATE = "let an operator act"


CALM = frozenset((Trouble.DRAIN, Trouble.SLOW_PARTITION, Trouble.BANK_MUTE, Trouble.RESTOCK))
"""Of these alone nothing is ever delivered twice."""

LOCAL = frozenset(
    (Trouble.REFUSE, Trouble.POISON, Trouble.POISONS, Trouble.STRANGERS, Trouble.REFUSE_MOST, Trouble.RESTOCK)
)
"""These hold up the orders that they befall, and no other."""


AT_ONCE = frozenset((Trouble.REFUSE_ALL, Trouble.REFUSE_MOST, Trouble.UNSERVED))
"""These begin at once: later there may be nothing left for them to befall."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldPlan:
    """One world. Times are in virtual seconds.

    What shops order is as varied as this world has it: `currencies`, lines in any order and prices up to the highest
    (`varied`), keys that come again with another body (`reuses_keys`), `out_of_stock` as the share of orders that
    cannot be served; all of it at one moment if `at_once`. With `operators`, people look in the end after what was
    given up. `idle_s` passes before anybody orders. `fault_every` is the mean number of steps between two faults; at
    the step `focus` they are frequent, so that rare steps get their share. Where members `commit_late`, they write
    offsets down some time after they were committed, as those of the log in PostgreSQL do. `narrow` databases hold
    Latin-1 only, so that they refuse texts that others may send. `haste` is the share of steps after which a process
    goes on at once, before any other has its turn.

    `base` is the seed that the plan was drawn from, `seed` the one by which everything in it happens: the same,
    unless the plan was changed since.
    """

    base: int
    seed: int
    orders: int
    currencies: tuple[str, ...]
    varied: bool
    reuses_keys: bool
    at_once: bool
    operators: bool
    idle_s: float
    out_of_stock: float
    processes: Mapping[str, int]
    partitions: int
    faults: tuple[ProcessFault, ...]
    fault_every: float
    focus: str
    troubles: tuple[Trouble, ...]
    troubled_s: float
    session_timeout_s: float
    skew_ms: int
    bank_timeout_s: float
    commit_late: bool
    narrow: bool
    haste: float
    config: EngineConfig

    @property
    def is_calm(self) -> bool:
        """Nothing happens by which anything would be delivered twice."""
        alone = all(count == 1 for count in self.processes.values())
        return alone and {ProcessFault.DELAY}.issuperset(self.faults) and CALM.issuperset(self.troubles)

    @property
    def drain_s(self) -> float:
        """How long a process may take to end in good order. Where nothing may come twice, as long as it needs."""
        return 30.0 if self.is_calm else 1.0

    @property
    def neighbours_within_s(self) -> float:
        """How long orders may take that nothing has befallen; longer where the bank is asked one thing at a time."""
        return 15.0 + (3.0 * self.orders if self.config.gateway_queue_max == 1 else 0.0)

    def last_moment_s(self, trouble: Trouble) -> float:
        """Until when the trouble may begin. What only crowds, or the hour of the purge, can show begins at once."""
        return 0.0 if trouble in AT_ONCE or self.idle_s else self.troubled_s

    @property
    def is_local(self) -> bool:
        """What happens concerns single orders only."""
        return not self.faults and LOCAL.issuperset(self.troubles) and bool(self.troubles)

    def describe(self) -> str:
        """One line."""
        processes = ", ".join(f"{count} {name}" for name, count in self.processes.items())
        focus = f", most at {self.focus}" if self.focus else ""
        faults = f"{', '.join(self.faults)} every {self.fault_every:.0f} steps{focus}" if self.faults else "no faults"
        troubles = "; ".join(self.troubles) or "no troubles"
        return f"{self.orders} orders, {processes}, {self.partitions} partitions; {faults}; {troubles}"


SHAPES = (
    *["any"] * 12,
    "local",
    "local",
    "calm",
    "calm",
    "crowd",
    "crowd",
    "race",
    "race",
    "most",
    "unserved",
    "operated",
    "late",
)
AT_THE_END = ("committed", "committed", "commit_offsets", "appended")
FAULTS: Mapping[str, tuple[ProcessFault, ...]] = {
    "any": tuple(ProcessFault),
    "calm": (ProcessFault.DELAY,),
    "race": (ProcessFault.DELAY,),
    "operated": (ProcessFault.DELAY, ProcessFault.CRASH),
    "local": (),
    "crowd": (),
    "most": (),
    "unserved": (),
    "late": (),
}
TWO = {"calm": 0.0, "race": 0.9, "crowd": 0.1}
"""The share of services that have two processes, where it is not a quarter."""

CROWDED = ("crowd", "most")


def draw(seed: int) -> WorldPlan:
    """The plan of a seed: always the same. Some shapes show what chance alone would seldom bring together."""
    rng = seeded(seed, "plan")
    shape = rng.choice(SHAPES)
    faults = tuple(fault for fault in FAULTS[shape] if rng.random() < 0.6)
    focus = rng.choice(STEPS) if faults and rng.random() < 0.5 else ""
    if shape == "calm" and faults:
        focus = rng.choice(AT_THE_END)
    late = shape == "late"
    return WorldPlan(
        base=seed,
        seed=seed,
        orders=rng.randint(11, 14) if shape in CROWDED else rng.choice((1, 1, 2, 2, 3, 4, 6)),
        at_once=shape in (*CROWDED, "race"),
        currencies=("EUR",) if rng.random() < 0.5 else ("EUR", "USD", "JPY", "KWD"),
        varied=rng.random() < 0.5,
        reuses_keys=rng.random() < 0.5,
        operators=rng.random() < 0.5,
        idle_s=57.5 if late else 0.0,
        out_of_stock=0.9 if focus in BANK_STEPS or shape == "crowd" else rng.choice((0.1, 0.5)),
        processes={name: 2 if rng.random() < TWO.get(shape, 0.25) else 1 for name in SERVICES},
        partitions=rng.randint(1, 3),
        faults=faults,
        fault_every=rng.choice((10.0, 25.0, 60.0, 150.0)),
        focus=focus,
        troubles=(Trouble.LOG_AWAY,) if late else _troubles(rng, shape, focus),
        troubled_s=6.0 if late else rng.choice((1.5, 3.0, 6.0)),
        session_timeout_s=rng.choice((0.5, 2.0)),
        skew_ms=rng.choice((0, 50, 5_000)),
        bank_timeout_s=rng.choice((0.3, 1.0)),
        commit_late=rng.random() < 0.5,
        narrow=rng.random() < 0.3,
        haste=rng.choice((0.0, 0.5, 0.8)),
        config=_config(rng, late=late),
    )


def _troubles(rng: random.Random, shape: str, focus: str) -> tuple[Trouble, ...]:
    may = {
        "local": sorted(LOCAL),
        "calm": [*sorted(CALM), *[Trouble.DRAIN] * 4],
        "race": [Trouble.DUPLICATE, Trouble.REWIND],
    }.get(shape)
    if shape == "crowd":
        return (Trouble.REFUSE_ALL, rng.choice((Trouble.KILL, Trouble.DRAIN, Trouble.POISONS, Trouble.RESTOCK)))
    if shape == "most":
        return (Trouble.REFUSE_MOST, rng.choice((Trouble.STRANGERS, Trouble.POISONS, Trouble.RESTOCK)))
    if shape == "unserved":
        return (Trouble.UNSERVED, *[rng.choice((Trouble.UNSERVED, Trouble.BANK_MUTE, Trouble.RESTOCK))])
    if shape == "operated":
        return (Trouble.BANK_MUTE, Trouble.REFUSE, Trouble.POISON, *[Trouble.OPERATE] * rng.randint(2, 6))
    if may is not None:
        return tuple(rng.choice(may) for _ in range(rng.choice((1, 2, 4))))
    kinds = [trouble for trouble in Trouble if rng.random() < 0.4]
    count = rng.choice((0, 1, 2, 4, 6)) if kinds else 0
    drawn = tuple(rng.choice(kinds) for _ in range(count))
    return (*drawn, *[Trouble.REFUSE] * 4) if focus == "parked" else drawn


def _config(rng: random.Random, *, late: bool) -> EngineConfig:
    """The production engine with shorter waits, so that a virtual minute is enough, and batches of any size."""
    return EngineConfig(
        batch_max=rng.choice((1, 2, 5, 500)),
        command_queue_max=rng.choice((2, 4096)),
        attempts_max=rng.choice((2, 6)),
        retry_first_ms=100,
        retry_ceiling_ms=1_000,
        infrastructure_ceiling_ms=500,
        ask_again_first_ms=100,
        ask_again_ceiling_ms=1_000,
        gateway_concurrency=rng.choice((1, 256)),
        gateway_queue_max=rng.choice((1, 2048)),
        intent_lease_ms=2_000,
        outbox_slots=rng.choice((1, 4)),
        outbox_keep_ms=500 if late else 24 * 3_600_000,
    )


NONE = "none"
PLUS = "+"
COUNT_MAX = 10_000
Count = NewType("Count", int)
"""At least one, and no more than a world can bear."""

SETTINGS = (
    "batch_max",
    "command_queue_max",
    "attempts_max",
    "gateway_concurrency",
    "gateway_queue_max",
    "outbox_slots",
)
"""Of the engine's configuration, what plans differ in."""

CURRENCIES = ("EUR", "USD", "JPY", "KWD")


class Knob(NamedTuple):
    """One thing of a plan that can be changed: how it is read, changed and written."""

    of: Callable[[WorldPlan], Any]
    changed: Callable[[WorldPlan, Any], WorldPlan]
    parse: Callable[[str], Any]
    show: Callable[[Any], str]


def name_of(plan: WorldPlan) -> str:
    """The text of a plan: that of a plan as it was drawn is its seed."""
    drawn = draw(plan.base)
    changed = {name: knob for name, knob in KNOBS.items() if knob.of(plan) != knob.of(drawn)}
    return ",".join((str(plan.base), *(f"{name}={knob.show(knob.of(plan))}" for name, knob in changed.items())))


def plan_of(text: str) -> WorldPlan:
    """The plan that a text names. Raises ValueError with what is wrong, and what may stand there."""
    seed, *changes = text.split(",")
    if not seed.isdecimal():
        raise ValueError(f"a seed is a whole number, and not {seed!r}")
    plan = draw(int(seed))
    for change in changes:
        name, _, value = change.partition("=")
        if name not in KNOBS:
            raise ValueError(f"nothing in a plan is called {name!r}; there is {', '.join(KNOBS)}")
        try:
            plan = KNOBS[name].changed(plan, KNOBS[name].parse(value))
        except (KeyError, ValueError):
            raise ValueError(f"{value!r} is no value of {name}") from None
    return plan


def _knobs() -> Mapping[str, Knob]:
    hints = get_type_hints(WorldPlan)
    hints |= dict.fromkeys(("orders", "partitions"), Count)
    plain = {
        each.name: hints[each.name] for each in fields(WorldPlan) if each.name not in ("base", "processes", "config")
    }
    knobs = {name: Knob(partial(_field, name), partial(_with_field, name), *_codec(of)) for name, of in plain.items()}
    knobs |= {name: Knob(partial(_count, name), partial(_with_count, name), *_codec(Count)) for name in SERVICES}
    for name in SETTINGS:
        knobs[name] = Knob(partial(_setting, name), partial(_with_setting, name), *_codec(Count))
    return types.MappingProxyType(knobs)


def _codec(of: Any) -> tuple[Callable[[str], Any], Callable[[Any], str]]:
    if get_origin(of) is tuple:
        [kind, _] = get_args(of)
        of_kind: Mapping[str, str] = _names(kind)
        return partial(_several, of_kind), _shown_several
    if of is Count:
        return _count_of, str
    if of is bool:
        return {"yes": True, "no": False}.__getitem__, lambda value: "yes" if value else "no"
    if of is str:
        return {NONE: "", **{step: step for step in STEPS}}.__getitem__, lambda value: value or NONE
    return (_seconds, repr) if of is float else (_number, str)


def _names(kind: Any) -> Mapping[str, str]:
    if kind in (ProcessFault, Trouble):
        return {each.name.lower(): each for each in kind}
    return {each: each for each in CURRENCIES}


def _several(of_kind: Mapping[str, str], text: str) -> tuple[str, ...]:
    return () if text == NONE else tuple(of_kind[each] for each in text.split(PLUS))


def _shown_several(values: tuple[Any, ...]) -> str:
    return PLUS.join(each.name.lower() if isinstance(each, Enum) else each for each in values) or NONE


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _count_of(text: str) -> int:
    if not 1 <= (number := _number(text)) <= COUNT_MAX:
        raise ValueError(text)
    return number


def _seconds(text: str) -> float:
    if not 0 <= (number := float(text)) < math.inf:
        raise ValueError(text)
    return number


def _field(name: str, plan: WorldPlan) -> Any:
    return getattr(plan, name)


def _with_field(name: str, plan: WorldPlan, value: Any) -> WorldPlan:
    return replace(plan, **{name: value})


def _count(name: str, plan: WorldPlan) -> Any:
    return plan.processes[name]


def _with_count(name: str, plan: WorldPlan, value: Any) -> WorldPlan:
    return replace(plan, processes={**plan.processes, name: value})


def _setting(name: str, plan: WorldPlan) -> Any:
    return getattr(plan.config, name)


def _with_setting(name: str, plan: WorldPlan, value: Any) -> WorldPlan:
    return replace(plan, config=replace(plan.config, **{name: value}))


KNOBS = _knobs()
