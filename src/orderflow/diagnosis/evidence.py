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
from orderflow.http.operators.outages import OutageView
from orderflow.http.operators.queues import Backlog, Lag
from orderflow.observability.catalogue import HANDLED_AGE

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEvidence:
    """How a service stands as a whole. `away` is why it did not answer, "" when it did; `silent`: it only hangs.

    `usual` are the ages of orders, in seconds, at which a consumer has handled a type of event: so old was an order
    when half of them, and when 99 of 100, had been handled, since the process started.
    """

    name: str
    away: str = ""
    silent: bool = False
    problems: Mapping[str, str] = field(default_factory=dict)
    alarms: Mapping[str, str] = field(default_factory=dict)
    faults: Sequence[str] = ()
    lag: Sequence[Lag] = ()
    backlog: Backlog | None = None
    outages: Sequence[OutageView] = ()
    expired: Sequence[Expired] = ()
    usual: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)


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
    """What a service says of itself. What it cannot tell, since its database is away, say, is left out."""
    try:
        ready = ask(name, "/health/ready")
    except NoAnswerError as error:
        return ServiceEvidence(name=name, away=str(error), silent=error.silent)
    listed = _told(ask, name, "/ops/outages", {"outages": []})
    return ServiceEvidence(
        name=name,
        problems=ready["problems"],
        alarms=ready.get("alarms") or {},
        faults=ready.get("faults") or (),
        lag=converted(_told(ask, name, "/ops/lag", []), list[Lag]),
        backlog=None if (backlog := _told(ask, name, "/ops/outbox", None)) is None else converted(backlog, Backlog),
        outages=converted(listed["outages"], list[OutageView]),
        expired=converted(_told(ask, name, "/ops/expired", []), list[Expired]),
        usual=usual_ages(_told(ask, name, "/metrics", "")),
    )


def ask_key(ask: Ask, name: str, key: str) -> KeyEvidence:
    """What a service has of an order; nothing, where it cannot tell."""
    standing = converted(_told(ask, name, f"/ops/repairs/{key}", {}), Standing)
    letters = _told(ask, name, f"/ops/dead-letters?state=all&key={key}&limit={LETTERS_MAX}", {"dead_letters": []})
    return KeyEvidence(
        said=standing.said,
        trail=converted(_told(ask, name, f"/ops/trails/{key}", {}), Trail),
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


def usual_ages(scrape: str) -> Mapping[tuple[str, str], tuple[float, float]]:
    """The upper bounds of half and of 99 of 100, by consumer and type, from a scrape's histogram."""
    buckets: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for family in text_string_to_metric_families(scrape):
        if family.name == HANDLED_AGE:
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    name = (sample.labels["consumer"], sample.labels["event_type"])
                    buckets.setdefault(name, []).append((float(sample.labels["le"]), sample.value))
    return {name: (_quantile(0.5, found), _quantile(0.99, found)) for name, found in buckets.items()}


def _quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float:
    most = max(count for _, count in buckets)
    return next(bound for bound, count in sorted(buckets) if count >= share * most)
