"""What is expected next of an order, who owes it, and why it has not come: a pure function of the evidence.

An order moves when an event that one service has said comes to the next: written, published, read, decided. So the
first of these steps that is not done is the one that is waited for, and whoever has to do it owes it. The causes are
what hinders that one: a service that is away before what it says of itself, that before what was judged or given up,
and that before what is merely slow. Nothing is named for an order that is no later than orders usually are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec

from orderflow.core.identity import partition_of
from orderflow.core.inbox import Waits
from orderflow.core.operations.model import DeadLetter, OpenQuestion
from orderflow.core.operations.repairing import Said
from orderflow.diagnosis.evidence import KeyEvidence, Observations, ServiceEvidence, Subscriber

FINAL = ("COMPLETED", "FAILED")
OWED_REFUNDS = ("due", "refused")
UNKNOWN_USUAL_S = 5.0
"""Later than that is late, where no order has gone that way yet since the service was started."""

LATE_SHARE = 2.0
"""Later than twice what 99 of 100 take is late."""

SETTLED_S = 1.0
"""So long after the order was placed, what is seen of it at several services is not seen in the middle of a step."""


class CauseKind(StrEnum):
    """What can hold an order up."""

    SERVICE_AWAY = "service-away"
    SERVICE_SILENT = "service-silent"
    COMPONENT = "component"
    DEAD = "dead"
    RETRYING = "retrying"
    HELD = "held"
    OUTAGE = "outage"
    FAULT = "fault"
    EXPIRED = "expired"
    UNSENT = "unsent"
    BEHIND = "behind"
    BANK_UNKNOWN = "bank-unknown"
    BANK_SLOW = "bank-slow"
    REFUND_REFUSED = "refund-refused"
    DISCARDED = "discarded"
    NOTHING_OWED = "nothing-owed"


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why the step is not done: at which service and which part of it, in a sentence, and the command that helps."""

    kind: CauseKind
    service: str
    component: str = ""
    why: str
    command: str


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of the order's way, as one service has noted it."""

    at: datetime
    service: str
    what: str
    event_id: str = ""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """`expected` is the step that comes next, in words, "" when none does; `owner` owes it.

    `waited_s`: since the last thing that happened to the order. `usual_s`: the age at which 99 of 100 orders had
    come past this step, null where none has yet. `causes`: the likeliest first.
    """

    order_id: str
    status: str
    expected: str
    owner: str
    waited_s: float
    age_s: float
    usual_s: float | None
    is_late: bool
    causes: Sequence[Cause]
    timeline: Sequence[TimelineEntry]


@dataclass(frozen=True, slots=True)
class Step:
    """A step that is not done. `consumer` is None while the event is not out, and while `asked` has no answer."""

    service: str
    expected: str
    said: Said | None = None
    consumer: Subscriber | None = None
    asked: OpenQuestion | None = None


def explain(evidence: Observations, consumers: Sequence[Subscriber], now: datetime) -> Explanation:
    """`now` by the clock of whoever asks; ages are never below 0."""
    timeline = _timeline(evidence)
    order = evidence.order
    step = next(_open_steps(evidence, consumers), None)
    begun = order.created_at if order else (timeline[0].at if timeline else now)
    last = max((mark.at for mark in timeline), default=begun)
    age_s = max(0.0, (now - begun).total_seconds())
    usual_s = _usual(evidence, step)
    is_late = step is not None and age_s > (UNKNOWN_USUAL_S if usual_s is None else max(LATE_SHARE * usual_s, 1.0))
    causes = _causes(evidence, step, is_late=is_late) if step else _at_the_end(evidence, is_late=age_s > SETTLED_S)
    return Explanation(
        order_id=evidence.order_id,
        status=order.status if order else "UNKNOWN",
        expected=step.expected if step else "",
        owner=step.service if step else "",
        waited_s=max(0.0, (now - last).total_seconds()) if step else 0.0,
        age_s=age_s,
        usual_s=usual_s,
        is_late=is_late,
        causes=list(causes),
        timeline=timeline,
    )


def _open_steps(evidence: Observations, consumers: Sequence[Subscriber]) -> Iterator[Step]:
    """What is not done yet, in the order in which it matters for the order's end: notices to customers last."""
    if evidence.order is None:
        yield Step("order", "the order service to tell how the order stands")
        return
    deferred: list[Step] = []
    for service, known in evidence.keys.items():
        for step in _steps_of(service, known, evidence, consumers):
            if step.consumer is not None and not step.consumer.says_more:
                deferred.append(step)
            else:
                yield step
    yield from deferred


def _steps_of(
    service: str, known: KeyEvidence, evidence: Observations, consumers: Sequence[Subscriber]
) -> Iterator[Step]:
    unsent = {str(each.event_id) for each in known.trail.unsent}
    for said in known.said:
        name = _name(said.type)
        if said.event_id in unsent:
            yield Step(service, f"the {service} service to publish {name}", said)
            continue
        for consumer in consumers:
            if said.type in consumer.handles.get(said.topic, ()) and not _has_come(said, consumer, evidence):
                yield Step(consumer.service, f"the {consumer.service} service to handle {name}", said, consumer)
    for asked in known.trail.asked:
        yield Step(service, f"the bank to answer {asked.kind} (asked by the {service} service)", asked=asked)


def _has_come(said: Said, consumer: Subscriber, evidence: Observations) -> bool:
    """Whether the consumer has done with it. One that does not answer is taken not to have."""
    if evidence.services[consumer.service].away:
        order = evidence.order
        return order is not None and order.status in FINAL and order.refund not in OWED_REFUNDS
    identities = {said.event_id, said.type.rpartition(".v")[0]}
    return any(
        each.consumer == consumer.name and each.state == "done" and {each.identity, str(each.event_id)} & identities
        for each in evidence.keys[consumer.service].trail.received
    )


def _causes(evidence: Observations, step: Step, *, is_late: bool) -> Iterator[Cause]:
    """What hinders the step: what is certain first. What is only slow is named when the order is late."""
    service = evidence.services[step.service]
    if service.away:
        yield _away(service)
        return
    if step.consumer is not None and step.said is not None:
        yield from _of_letters(evidence, step.consumer, step.said)
        yield from _of_outages(service, step.consumer, step.said)
    if step.asked is not None:
        yield from _of_bank(service, step.asked, is_late=is_late)
    yield from _of_components(service, step)
    yield from _of_faults(service)
    if step.consumer is not None and step.said is not None:
        yield from _of_expired(service, step.consumer, step.said)
        yield from _of_lag(service, evidence.order_id, step.consumer, step.said, is_late=is_late)
    elif step.said is not None and is_late and service.backlog is not None:
        yield _cause(
            CauseKind.UNSENT,
            service,
            f"{service.backlog.unsent} events of the service are written and not published",
            "orderflow outbox status",
            "relay",
        )


def _away(service: ServiceEvidence) -> Cause:
    if service.silent:
        return _cause(CauseKind.SERVICE_SILENT, service, f"it hangs: {service.away}", "orderflow status")
    return _cause(CauseKind.SERVICE_AWAY, service, f"it is not there: {service.away}", "orderflow status")


def _of_letters(evidence: Observations, consumer: Subscriber, said: Said) -> Iterator[Cause]:
    """The event itself, or the one of its key that it waits behind."""
    service = evidence.services[consumer.service]
    mine = [each for each in evidence.keys[consumer.service].letters if each.consumer == consumer.name]
    head = next((each for each in mine if each.state is not Waits.HELD), None)
    if head is None:
        return
    show = f"orderflow dlt show {head.event_id}"
    if str(head.event_id) != said.event_id and _name(head.event_type) != _name(said.type):
        stands = "was given up" if head.state is Waits.DEAD else "is tried again"
        why = f"it waits behind {_name(head.event_type)}, which {stands}: {_failure(head)}"
        yield _cause(CauseKind.HELD, service, why, show, consumer.name)
    elif head.state is Waits.DEAD:
        why = f"it was given up after {head.attempts} tries: {_failure(head)}"
        yield _cause(CauseKind.DEAD, service, why, show, consumer.name)
    else:
        why = f"it failed {head.attempts} times and is tried again: {_failure(head)}"
        yield _cause(CauseKind.RETRYING, service, why, show, consumer.name)


def _of_outages(service: ServiceEvidence, consumer: Subscriber, said: Said) -> Iterator[Cause]:
    for each in service.outages:
        if each.consumer == consumer.name and each.event_type == said.type and each.state == "outage":
            why = f"{each.failing} of {each.tried} orders fail alike, which is taken for an outage: {each.error}"
            yield _cause(CauseKind.OUTAGE, service, why, "orderflow outage list", consumer.name)


def _of_bank(service: ServiceEvidence, asked: OpenQuestion, *, is_late: bool) -> Iterator[Cause]:
    if asked.attempts:
        why = f"the bank was asked {asked.attempts + 1} times and has not said what became of the {asked.kind}"
        yield _cause(CauseKind.BANK_UNKNOWN, service, why, "orderflow payment list --state unknown", "gateway")
    elif is_late:
        why = f"the bank has not answered the {asked.kind} yet"
        yield _cause(CauseKind.BANK_SLOW, service, why, "orderflow health", "gateway")


def _of_components(service: ServiceEvidence, step: Step) -> Iterator[Cause]:
    """What the service says that it waits for: first the part that has to do the step."""
    own = {step.consumer.name if step.consumer else "", "relay" if step.said and not step.consumer else ""}
    first = sorted(service.problems.items(), key=lambda each: not any(part and part in each[0] for part in own))
    for component, why in first:
        yield _cause(CauseKind.COMPONENT, service, why, "orderflow health", component)


def _of_faults(service: ServiceEvidence) -> Iterator[Cause]:
    for fault in service.faults:
        yield _cause(CauseKind.FAULT, service, f"a fault is set on purpose: {fault}", "orderflow fault list")


def _of_expired(service: ServiceEvidence, consumer: Subscriber, said: Said) -> Iterator[Cause]:
    lost = sum(each.count for each in service.expired if (each.consumer, each.topic) == (consumer.name, said.topic))
    if lost:
        why = f"{lost} records of {said.topic} expired before it had read them"
        yield _cause(CauseKind.EXPIRED, service, why, "orderflow expired list", consumer.name)


def _of_lag(
    service: ServiceEvidence, key: str, consumer: Subscriber, said: Said, *, is_late: bool
) -> Iterator[Cause]:
    found = [each for each in service.lag if (each.consumer, each.topic) == (consumer.name, said.topic)]
    partition = partition_of(key.encode(), len(found)) if found else -1
    behind = next((each.lag for each in found if each.partition == partition), 0)
    if is_late and behind:
        why = f"it is {behind} records behind on {said.topic}, partition {partition}, where the order is"
        yield _cause(CauseKind.BEHIND, service, why, "orderflow lag --partitions", consumer.name)


def _at_the_end(evidence: Observations, *, is_late: bool) -> Iterator[Cause]:
    """Nothing is under way. An order that has not ended then will not by itself."""
    order = evidence.order
    if order is None:
        return
    if order.refund == "refused":
        why = "the bank refuses to give the money back"
        yield _cause(
            CauseKind.REFUND_REFUSED, evidence.services["payment"], why, f"orderflow payment show {order.id}"
        )
    elif is_late and (order.status not in FINAL or order.refund == "due"):
        why = "nothing is under way that would move it: an event or its effect was lost, or given up by an operator"
        yield _cause(CauseKind.NOTHING_OWED, evidence.services["order"], why, "orderflow audit --repair")


def _cause(kind: CauseKind, service: ServiceEvidence, why: str, command: str, component: str = "") -> Cause:
    return Cause(kind=kind, service=service.name, component=component, why=why, command=command)


def _usual(evidence: Observations, step: Step | None) -> float | None:
    if step is None or step.consumer is None or step.said is None:
        return None
    found = evidence.services[step.service].usual.get((step.consumer.name, step.said.type))
    return None if found is None else found[1]


def _timeline(evidence: Observations) -> list[TimelineEntry]:
    """Everything that has a time, in its order."""
    marks: list[TimelineEntry] = []
    if evidence.order is not None:
        for step in evidence.order.history:
            stands = f"refund {step.refund}" if step.refund else step.status
            marks.append(TimelineEntry(at=step.at, service="order", what=f"{stands}, by {step.event}"))
    for service, known in evidence.keys.items():
        types = {each.event_id: _name(each.type) for other in evidence.keys.values() for each in other.said}
        marks += _marks_of(service, known, types)
    return sorted(marks, key=lambda mark: mark.at)


def _marks_of(service: str, known: KeyEvidence, types: Mapping[str, str]) -> Iterable[TimelineEntry]:
    for each in known.trail.received:
        if each.at is not None:
            known_as = each.identity.rpartition(".")[2] if "." in each.identity else "what the bank has answered"
            name = types.get(str(each.event_id), known_as)
            what = f"{each.consumer} {'handled' if each.state == 'done' else each.state}: {name}"
            yield TimelineEntry(at=each.at, service=service, what=what, event_id=str(each.event_id))
    for unsent in known.trail.unsent:
        name = types.get(str(unsent.event_id), unsent.topic)
        what = f"wrote {name}, not published yet"
        yield TimelineEntry(at=unsent.since, service=service, what=what, event_id=str(unsent.event_id))
    for asked in known.trail.asked:
        yield TimelineEntry(at=asked.since, service=service, what=f"asked the bank: {asked.kind}")
    for letter in known.letters:
        yield from _marks_of_letter(service, letter)


def _marks_of_letter(service: str, letter: DeadLetter) -> Iterator[TimelineEntry]:
    name, event_id = _name(letter.event_type), str(letter.event_id)
    yield TimelineEntry(
        at=letter.parked_at, service=service, what=f"{letter.consumer} parked: {name}", event_id=event_id
    )
    if letter.last_failed_at is not None:
        stands = "gave up" if letter.state is Waits.DEAD else "failed"
        what = f"{letter.consumer} {stands} (try {letter.attempts}): {name}: {_failure(letter)}"
        yield TimelineEntry(at=letter.last_failed_at, service=service, what=what, event_id=event_id)


def _failure(letter: DeadLetter) -> str:
    return f"{letter.error}: {letter.message}"


def _name(wire: str) -> str:
    """`orderflow.OrderPlaced.v1` → `OrderPlaced`."""
    return wire.rpartition(".v")[0].rpartition(".")[2] or wire
