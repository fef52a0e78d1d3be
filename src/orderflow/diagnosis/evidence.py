"""What the services say of themselves and of one order, asked side by side, through their operators' endpoints alone.

A service that does not answer is evidence too. What is asked of a service as a whole is asked once, however many
orders are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from orderflow.core.conversion import converted
from orderflow.core.dead_letters import FLOW_STATUS
from orderflow.core.messages import Event, wire_name
from orderflow.core.operations.model import DeadLetter, Expired, Trail
from orderflow.core.operations.repairing import Said, Standing
from orderflow.core.service import Service
from orderflow.diagnosis.side_by_side import side_by_side
from orderflow.http.operators.outages import OutageView
from orderflow.http.operators.queues import Backlog, Lag
from orderflow.observability.catalogue import BUILD_INFO, HANDLED_AGE

LETTERS_MAX = 50


class NoAnswerError(Exception):
    """A service was asked, and this is why it did not answer. `silent`: it took the connection and said nothing."""

    def __init__(self, why: str, *, silent: bool = False) -> None:
        super().__init__(why)
        self.silent = silent


Ask = Callable[[str, str], Any]
"""(service, path) → the JSON of its answer, of /metrics the text. Raises NoAnswerError."""


class Subscriber(NamedTuple):
    """Who reads what: a consumer, its service, and the wire names of the events that it handles, by topic.

    `says_more`: its service publishes events, for which others may wait.
    """

    name: str
    service: str
    handles: Mapping[str, frozenset[str]]
    says_more: bool


def consumers_of(services: Iterable[Service]) -> Sequence[Subscriber]:
    """In the order of the services."""
    found: list[Subscriber] = []
    for service in services:
        types = [each for each in service.handlers if issubclass(each, Event)]
        for each in service.subscriptions:
            handles = {
                topic: frozenset(wire_name(kind) for kind in types if topic == kind.TOPIC) for topic in each.topics
            }
            says_more = any(topic != FLOW_STATUS for topic in service.publishes)
            found.append(Subscriber(each.consumer, service.name, handles, says_more))
    return found


class UsualAge(NamedTuple):
    """So old, in s, were half of all orders, and 99 of 100, when they had come past a step."""

    half_s: float
    most_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEvidence:
    """How a service stands as a whole. `away` is why it did not answer, "" when it did; `silent`: it only hangs.

    `last_words` are why its process ended, where that is known; `release` is that of its code, "" where it does not
    tell. `usual` are the ages of orders, in seconds, at which a consumer has handled a type of event, since the
    process started.
    """

    name: str
    away: str = ""
    silent: bool = False
    last_words: str = ""
    release: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)
    alarms: Mapping[str, str] = field(default_factory=dict)
    faults: Sequence[str] = ()
    lag: Sequence[Lag] = ()
    backlog: Backlog | None = None
    outages: Sequence[OutageView] = ()
    expired: Sequence[Expired] = ()
    usual: Mapping[tuple[str, str], UsualAge] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEvidence:
    """What one service has of an order: what its rows say, what came in and waits to go out, and what has failed."""

    said: Sequence[Said] = ()
    trail: Trail = field(default_factory=Trail)
    letters: Sequence[DeadLetter] = ()


class OrderEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """The order as its service shows it, as far as a diagnosis needs it."""

    id: str
    status: str
    reason: str | None
    refund: str
    created_at: datetime
    history: list[OrderStep]


class OrderStep(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the order's history."""

    version: int
    status: str
    event: str
    at: datetime
    refund: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """All of it. `order` is None when the order service did not answer."""

    order_id: str
    order: OrderEvidence | None
    services: Mapping[str, ServiceEvidence]
    keys: Mapping[str, KeyEvidence]


def ask_service(ask: Ask, name: str) -> ServiceEvidence:
    """What a service says of itself. What it cannot tell is left out; that the log or the database keeps it from
    telling is a problem that it may not have noticed yet.
    """
    try:
        ready = ask(name, "/health/ready")
    except NoAnswerError as error:
        return ServiceEvidence(name=name, away=str(error), silent=error.silent)
    wanted: dict[str, tuple[Any, str]] = {
        "/ops/lag": ([], "transport"),
        "/ops/outbox": (None, "database"),
        "/ops/outages": ({"outages": []}, ""),
        "/ops/expired": ([], ""),
        "/metrics": ("", ""),
    }
    problems = dict(ready["problems"])

    def told(path: str) -> Any:
        """Where it hangs, there is a problem with the part that the answer comes from."""
        otherwise, part = wanted[path]
        try:
            return ask(name, path)
        except NoAnswerError as error:
            if part and error.silent and not ready["problems"]:
                problems[part] = str(error)
            return otherwise

    lag, backlog, listed, expired, scrape = side_by_side(told, list(wanted))
    return ServiceEvidence(
        name=name,
        release=release_of(scrape),
        lag=converted(lag, list[Lag]),
        backlog=None if backlog is None else converted(backlog, Backlog),
        problems=problems,
        alarms=ready.get("alarms") or {},
        faults=ready.get("faults") or (),
        outages=converted(listed["outages"], list[OutageView]),
        expired=converted(expired, list[Expired]),
        usual=usual_ages(scrape),
    )


def ask_key(ask: Ask, name: str, key: str) -> KeyEvidence:
    """What a service has of an order; nothing, where it cannot tell."""
    wanted: dict[str, Any] = {
        f"/ops/repairs/{key}": {},
        f"/ops/trails/{key}": {},
        f"/ops/dead-letters?state=all&key={key}&limit={LETTERS_MAX}": {"dead_letters": []},
    }
    standing, trail, letters = side_by_side(lambda path: _told(ask, name, path, wanted[path]), list(wanted))
    return KeyEvidence(
        said=converted(standing, Standing).said,
        trail=converted(trail, Trail),
        letters=converted(letters["dead_letters"], list[DeadLetter]),
    )


def ask_order(ask: Ask, order_id: str) -> OrderEvidence | None:
    """None when the service does not answer."""
    found = _told(ask, "order", f"/orders/{order_id}", None)
    return None if found is None else converted(found, OrderEvidence)


def _told(ask: Ask, name: str, path: str, otherwise: Any) -> Any:
    try:
        return ask(name, path)
    except NoAnswerError:
        return otherwise


def usual_ages(scrape: str) -> Mapping[tuple[str, str], UsualAge]:
    """By consumer and type, from a scrape's histogram: upper bounds of its buckets."""
    buckets: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for family in text_string_to_metric_families(scrape):
        if family.name == HANDLED_AGE:
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    name = (sample.labels["consumer"], sample.labels["event_type"])
                    buckets.setdefault(name, []).append((float(sample.labels["le"]), sample.value))
    return {name: UsualAge(_quantile(0.5, found), _quantile(0.99, found)) for name, found in buckets.items()}


def release_of(scrape: str) -> str:
    """The release that a scrape is of; "" where it does not say."""
    samples = (each for family in text_string_to_metric_families(scrape) for each in family.samples)
    return next((each.labels["version"] for each in samples if each.name == BUILD_INFO), "")


def _quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float:
    most = max(count for _, count in buckets)
    return next(bound for bound, count in sorted(buckets) if count >= share * most)
