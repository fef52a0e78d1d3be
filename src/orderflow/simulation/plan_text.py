"""A plan as a short text: the seed that it was drawn from, and what was changed since. `27,orders=1,focus=commit`."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, NewType, get_args, get_origin, get_type_hints

from orderflow.simulation.plan import SERVICES, Fault, Plan, Trouble, draw
from orderflow.simulation.steps import STEPS

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

    of: Callable[[Plan], Any]
    changed: Callable[[Plan, Any], Plan]
    parse: Callable[[str], Any]
    show: Callable[[Any], str]


def name_of(plan: Plan) -> str:
    """The text of a plan: that of a plan as it was drawn is its seed."""
    drawn = draw(plan.base)
    changed = {name: knob for name, knob in KNOBS.items() if knob.of(plan) != knob.of(drawn)}
    return ",".join((str(plan.base), *(f"{name}={knob.show(knob.of(plan))}" for name, knob in changed.items())))


def plan_of(text: str) -> Plan:
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
    hints = get_type_hints(Plan)
    hints |= dict.fromkeys(("orders", "partitions"), Count)
    plain = {each.name: hints[each.name] for each in fields(Plan) if each.name not in ("base", "processes", "config")}
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
    if kind in (Fault, Trouble):
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


def _field(name: str, plan: Plan) -> Any:
    return getattr(plan, name)


def _with_field(name: str, plan: Plan, value: Any) -> Plan:
    return replace(plan, **{name: value})


def _count(name: str, plan: Plan) -> Any:
    return plan.processes[name]


def _with_count(name: str, plan: Plan, value: Any) -> Plan:
    return replace(plan, processes={**plan.processes, name: value})


def _setting(name: str, plan: Plan) -> Any:
    return getattr(plan.config, name)


def _with_setting(name: str, plan: Plan, value: Any) -> Plan:
    return replace(plan, config=replace(plan.config, **{name: value}))


KNOBS = _knobs()
