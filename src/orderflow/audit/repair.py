"""What can be done about an order's findings, as a plan: each step an act of the service that owns the rows.

The plan follows from what the services say, not from the findings: an event that a service's rows stand for and
that a reader never had is said again, one whose effect the reader has lost is taken again. Nothing is said that
contradicts how the order ended: then a person decides. A service outside of the saga need not refuse what it has
had already, as the saga's do, so it is given only what a finding says that it has lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from orderflow.audit.findings import CATALOGUE, Finding, Kind
from orderflow.core.operations.repairing import Regard, Regarded, Said, Standing
from orderflow.events.base import order_id_of
from orderflow.registry import SAGA
from orderflow.services.order.model import OUT_OF_STOCK

INVENTORY = "inventory"
ORDER_COMPLETED = "OrderCompleted"
ORDER_FAILED = "OrderFailed"
STOCK_RESERVED = "StockReserved"
STOCK_REJECTED = "StockRejected"
PAYMENT_SUCCEEDED = "PaymentSucceeded"
PAYMENT_FAILED = "PaymentFailed"
OF_REFUNDS = frozenset({"PaymentRefunded", "RefundFailed", "PaymentVoided"})

UNSENT_KINDS = frozenset({Kind.EVENT_NEVER_SENT, Kind.SEQUENCE_GAP, Kind.RECORD_MISSING})
"""What the readers of ours may know all the same: others read the topic, too."""
LOST_THERE = frozenset({Kind.EVENT_NEVER_RECEIVED, Kind.PARKED_EVENT_MISSING})

BY_HAND = (
    "Compare what the services say of it: orderflow order show ORDER, orderflow payment show ORDER, "
    "orderflow dlt list --state all"
)


class RepairAction(StrEnum):
    """What a service is asked to do."""

    TAKE_AGAIN = "take-again"
    SAY_AGAIN = "say-again"
    ASK_AGAIN = "ask-again"
    RELEASE = "release"
    SHOW = "show"


@dataclass(frozen=True, slots=True)
class RepairStep:
    """One act of one service about one order. `events` are types (`PaymentSucceeded`), or keys of intents to ask.

    `said` is what is taken or said again; or, to release, OrderFailed and StockReserved, as their services say them.
    """

    order_id: str
    service: str
    act: RepairAction
    events: tuple[str, ...] = ()
    said: tuple[Said, ...] = ()

    def __str__(self) -> str:
        what = ", ".join(self.events)
        match self.act:
            case RepairAction.TAKE_AGAIN:
                return f"takes {what} again: its inbox knows it, but the effect is missing"
            case RepairAction.SAY_AGAIN:
                return f"says {what} again, as the same event: it never arrived"
            case RepairAction.ASK_AGAIN:
                return f"asks the bank again, under the same key: {what}"
            case RepairAction.RELEASE:
                return "releases what is reserved: the order failed"
            case RepairAction.SHOW:
                return "says again whether anything of the order waits there"


@dataclass(frozen=True, slots=True)
class Person:
    """A finding that no event heals, why, and what a person has to do."""

    finding: Finding
    why: str
    remedy: str


@dataclass(slots=True)
class RepairPlan:
    """`steps` in the order in which they are carried out, `heals` the findings that they are for, and the rest."""

    steps: list[RepairStep] = field(default_factory=list)
    heals: list[Finding] = field(default_factory=list)
    persons: list[Person] = field(default_factory=list)

    def add(self, other: RepairPlan) -> None:
        self.steps += other.steps
        self.heals += other.heals
        self.persons += other.persons


def orders_of(findings: Iterable[Finding]) -> Mapping[str, Sequence[Finding]]:
    """The orders of which something may be healed, with all findings of each."""
    by_order: dict[str, list[Finding]] = {}
    for finding in findings:
        if order_id_of(finding.subject) is not None:
            by_order.setdefault(finding.subject, []).append(finding)
    return {
        order_id: found for order_id, found in by_order.items() if any(CATALOGUE[each.kind].repair for each in found)
    }


def for_persons(findings: Iterable[Finding]) -> Iterator[Person]:
    """Those of which nothing can be healed by events."""
    repairable = orders_of(findings)
    for finding in findings:
        if finding.subject not in repairable:
            yield Person(finding, "no event can repair it", CATALOGUE[finding.kind].remedy)


def plan(
    order_id: str,
    findings: Sequence[Finding],
    standings: Mapping[str, Standing],
    regards: Mapping[str, Sequence[Regarded]],
) -> RepairPlan:
    """What to do about one order. `standings` is what each service says of it, `regards` how the consumers of each
    service stand to what the others say.
    """
    said = {_name(each.type): each for standing in standings.values() for each in standing.said}
    owners = {_name(each.type): service for service, standing in standings.items() for each in standing.said}
    disputed = _contradictions(said)
    obstacles: list[str] = []
    steps: list[RepairStep] = []
    missing = _unsent(findings, said, owners) - disputed
    for service, regarded in regards.items():
        for each in regarded:
            name = _name(each.type)
            if name not in said or each.regard is Regard.KNOWN:
                continue
            if service not in SAGA and not _is_lost(findings, service, said[name]):
                continue
            if name in disputed:
                obstacles.append(f"{name}, which {owners[name]} says, contradicts the state of the order")
            elif each.regard is Regard.LOST:
                steps.append(RepairStep(order_id, service, RepairAction.TAKE_AGAIN, (name,), (said[name],)))
            elif each.regard is Regard.MISSING:
                missing.add(name)
            else:
                obstacles.append(_obstacle(name, each))
    steps += _to_say(order_id, {name: each for name, each in said.items() if name in missing}, owners)
    steps += _others(order_id, {each.kind for each in findings}, standings, said)
    return _sorted_out(findings, steps, obstacles)


def _is_lost(findings: Iterable[Finding], service: str, said: Said) -> bool:
    """A finding says that the event has not come to its effect there."""
    names = (_name(said.type), said.event_id)
    return any(each.kind in LOST_THERE and each.where == service and each.event in names for each in findings)


def _to_say(order_id: str, said: Mapping[str, Said], owners: Mapping[str, str]) -> Iterator[RepairStep]:
    for service in dict.fromkeys(owners[name] for name in said):
        own = {name: each for name, each in said.items() if owners[name] == service}
        yield RepairStep(order_id, service, RepairAction.SAY_AGAIN, tuple(own), tuple(own.values()))


def _others(
    order_id: str, kinds: Collection[Kind], standings: Mapping[str, Standing], said: Mapping[str, Said]
) -> Iterator[RepairStep]:
    for service, standing in standings.items():
        if standing.asks:
            yield RepairStep(order_id, service, RepairAction.ASK_AGAIN, standing.asks)
    if Kind.RESERVATION_TO_RELEASE in kinds and {ORDER_FAILED, STOCK_RESERVED} <= said.keys():
        yield RepairStep(order_id, INVENTORY, RepairAction.RELEASE, (), (said[ORDER_FAILED], said[STOCK_RESERVED]))
    if Kind.STUCK_NOT_SHOWN in kinds:
        yield from (RepairStep(order_id, service, RepairAction.SHOW) for service in standings)


def _sorted_out(findings: Sequence[Finding], steps: Sequence[RepairStep], obstacles: Sequence[str]) -> RepairPlan:
    why = "; ".join(dict.fromkeys(obstacles)) or "nothing that the services say would repair it"
    found = RepairPlan(steps=list(steps))
    for finding in findings:
        info = CATALOGUE[finding.kind]
        if info.repair and steps:
            found.heals.append(finding)
        elif info.repair:
            found.persons.append(Person(finding, why, BY_HAND))
        else:
            found.persons.append(Person(finding, "no event can repair it", info.remedy))
    return found


def _contradictions(said: Mapping[str, Said]) -> set[str]:
    """The events that do not go with how the order ended, or, before its end, not with one another."""
    if ORDER_COMPLETED in said:
        return {PAYMENT_FAILED, STOCK_REJECTED, *OF_REFUNDS}
    if ORDER_FAILED in said:
        if _reason(said[ORDER_FAILED]) == OUT_OF_STOCK:
            return {PAYMENT_FAILED, STOCK_RESERVED}
        return {PAYMENT_SUCCEEDED, STOCK_RESERVED, STOCK_REJECTED, *OF_REFUNDS}
    spoken = {STOCK_RESERVED, STOCK_REJECTED} & said.keys()
    if PAYMENT_FAILED in said and spoken:
        return {PAYMENT_FAILED, *spoken}
    if STOCK_RESERVED in said and OF_REFUNDS & said.keys():
        return {STOCK_RESERVED, *OF_REFUNDS}
    return set()


def _unsent(findings: Iterable[Finding], said: Mapping[str, Said], owners: Mapping[str, str]) -> set[str]:
    """What is to be on the topic, whoever of ours knows it: the event that the finding names, or, where numbers are
    missing, all of that service.
    """
    return {
        name
        for each in findings
        if each.kind in UNSENT_KINDS
        for name, event in said.items()
        if name == each.event
        or event.event_id in each.expected
        or (each.kind is Kind.SEQUENCE_GAP and owners[name] == each.where)
    }


def _obstacle(name: str, regarded: Regarded) -> str:
    match regarded.regard:
        case Regard.WAITS:
            return f"{name} waits at {regarded.consumer}: see orderflow dlt list --state all"
        case Regard.GIVEN_UP:
            return f"{name} was discarded at {regarded.consumer} by an operator"
        case _:
            return f"{regarded.consumer} would refuse {name} ({regarded.why})"


def _reason(failed: Said) -> str:
    return str(msgspec.json.decode(failed.value).get("reason"))


def _name(wire: str) -> str:
    """`orderflow.OrderPlaced.v1` → `OrderPlaced`."""
    return wire.removeprefix("orderflow.").rpartition(".v")[0]
