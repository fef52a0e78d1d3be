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
from orderflow.core.messages import UndecodableError
from orderflow.core.operations.model import DeadLetter, OpenQuestion, ReceivedEvent
from orderflow.core.operations.repairing import Said
from orderflow.diagnosis.evidence import KeyEvidence, Observations, ServiceEvidence, Subscriber, UsualAge

FINAL = ("COMPLETED", "FAILED")
OWED_REFUNDS = ("due", "refused")
DONE, DISCARDED = "done", "discarded"
CLOCK_ALARM, OF_FLOW = "clock", ".flow"
STOOD_ON = frozenset({"database", "transport"})
"""Parts that have to be there for all others. Of what is wrong with these the others complain as well."""

MIGRATE = "`orderflow migrate`"
UNKNOWN_USUAL_S = 5.0
"""Later than that is late, where no order has gone that way yet since the service was started."""

LATE_SHARE = 2.0
LATE_SHARE_OF_HALF = 20.0
"""Later than twice what 99 of 100 take is late, and than 20 times what half of them take."""

MID_STEP_S = 1.0
"""So long after the order was placed, what is seen of it at several services is not seen in the middle of a step."""


class CauseKind(StrEnum):
    """What can hold an order up. `docs/causes.md` has them with what helps."""

    SERVICE_AWAY = "service-away"
    SERVICE_SILENT = "service-silent"
    CANNOT_START = "cannot-start"
    COMPONENT = "component"
    DEAD = "dead"
    RETRYING = "retrying"
    HELD = "held"
    OUTAGE = "outage"
    FAULT = "fault"
    EXPIRED = "expired"
    LOST = "lost"
    UNSENT = "unsent"
    TRANSACTION = "transaction"
    BEHIND = "behind"
    BANK_UNKNOWN = "bank-unknown"
    BANK_SLOW = "bank-slow"
    REFUND_REFUSED = "refund-refused"
    DISCARDED = "discarded"
    OLD_RELEASE = "old-release"
    CLOCK = "clock"
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
    come past this step, `usual_half_s`: at which half had; null where none has yet. `causes`: the likeliest first.
    `trace_id` is that of the W3C trace that the order's events carry: "" where there is none, or nobody has looked.
    """

    order_id: str
    trace_id: str = ""
    status: str
    expected: str
    owner: str
    waited_s: float
    age_s: float
    usual_s: float | None
    usual_half_s: float | None
    is_late: bool
    causes: Sequence[Cause]
    timeline: Sequence[TimelineEntry]


@dataclass(frozen=True, slots=True)
class PendingStep:
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
    usual = _usual(evidence, step)
    is_late = step is not None and age_s > late_after_s(usual)
    causes = _causes(evidence, step, is_late=is_late) if step else _at_the_end(evidence, is_late=age_s > MID_STEP_S)
    return Explanation(
        order_id=evidence.order_id,
        status=order.status if order else "UNKNOWN",
        expected=step.expected if step else "",
        owner=step.service if step else "",
        waited_s=max(0.0, (now - last).total_seconds()) if step else 0.0,
        age_s=age_s,
        usual_s=usual.most_s if usual else None,
        usual_half_s=usual.half_s if usual else None,
        is_late=is_late,
        causes=list(causes),
        timeline=timeline,
    )


def _open_steps(evidence: Observations, consumers: Sequence[Subscriber]) -> Iterator[PendingStep]:
    """What is not done yet, in the order in which it matters for the order's end: notices to customers last."""
    if evidence.order is None:
        yield PendingStep("order", "the order service to report the order's status")
        return
    deferred: list[PendingStep] = []
    for service, known in evidence.keys.items():
        for step in _steps_of(service, known, evidence, consumers):
            if step.consumer is not None and not step.consumer.says_more:
                deferred.append(step)
            else:
                yield step
    yield from deferred


def _steps_of(
    service: str, known: KeyEvidence, evidence: Observations, consumers: Sequence[Subscriber]
) -> Iterator[PendingStep]:
    unsent = {str(each.event_id) for each in known.trail.unsent}
    for said in known.said:
        name = _name(said.type)
        if said.event_id in unsent:
            yield PendingStep(service, f"the {service} service to publish {name}", said)
            continue
        for consumer in consumers:
            if said.type in consumer.handles.get(said.topic, ()) and not _has_come(said, consumer, evidence):
                yield PendingStep(
                    consumer.service, f"the {consumer.service} service to handle {name}", said, consumer
                )
    for asked in known.trail.asked:
        yield PendingStep(service, f"the bank to answer {asked.kind} (asked by the {service} service)", asked=asked)


def _has_come(said: Said, consumer: Subscriber, evidence: Observations) -> bool:
    """Whether the consumer has done with it. One that does not answer is taken not to have; but an order that has
    ended proves that all those have on whom others wait.
    """
    if evidence.services[consumer.service].away:
        order = evidence.order
        ended = order is not None and order.status in FINAL and order.refund not in OWED_REFUNDS
        return ended and consumer.says_more
    return _states(said, consumer, evidence) == {DONE}


def _states(said: Said, consumer: Subscriber, evidence: Observations) -> set[str]:
    """How the consumer's inbox has it: done, parked, dead, discarded; empty when it has not come."""
    identities = {said.event_id, said.type.rpartition(".v")[0]}
    found = {
        each.state
        for each in evidence.keys[consumer.service].trail.received
        if each.consumer == consumer.name and {each.identity, str(each.event_id)} & identities
    }
    return {DONE} if DONE in found else found


def _causes(evidence: Observations, step: PendingStep, *, is_late: bool) -> Iterator[Cause]:
    """What hinders the step: what is certain first. What is only slow is named when the order is late."""
    service = evidence.services[step.service]
    if service.away:
        yield _away(service)
        return
    if step.consumer is not None and step.said is not None:
        yield from _of_letters(evidence, step.consumer, step.said)
        yield from _of_outages(service, step.consumer, step.said)
        yield from _of_discards(evidence, step.consumer, step.said)
    if step.asked is not None:
        yield from _of_bank(service, step.asked, is_late=is_late)
    if step.consumer is not None and step.said is not None and (is_late or service.problems):
        yield from _of_transactions(service, evidence.order_id, step.consumer, step.said)
    yield from _of_components(service, step)
    if step.consumer is not None and step.said is not None:
        if not _states(step.said, step.consumer, evidence):
            expired = list(_of_expired(service, step.consumer, step.said))
            yield from expired or _of_lag(service, evidence.order_id, step.consumer, step.said, is_late=is_late)
    elif step.said is not None and is_late and service.backlog is not None:
        yield _cause(
            CauseKind.UNSENT,
            service,
            f"it has written {_times(service.backlog.unsent, 'event', 'events')} that are not published yet",
            "orderflow outbox status",
            "relay",
        )
    if is_late and CLOCK_ALARM in service.alarms:
        yield _cause(CauseKind.CLOCK, service, service.alarms[CLOCK_ALARM], "orderflow health")


def causes_of_silence(service: ServiceEvidence) -> Sequence[Cause]:
    """Why a service does not tell what it is asked; nothing, where it tells everything."""
    if service.away:
        return [_away(service)]
    return list(_of_problems(service))


def _away(service: ServiceEvidence) -> Cause:
    if service.silent:
        return _cause(CauseKind.SERVICE_SILENT, service, f"it hangs: {service.away}", "orderflow status")
    if service.last_words:
        command = "orderflow migrate" if MIGRATE in service.last_words else f"orderflow logs {service.name}"
        return _cause(CauseKind.CANNOT_START, service, f"it does not start: {service.last_words}", command)
    return _cause(CauseKind.SERVICE_AWAY, service, f"it is down: {service.away}", "orderflow status")


def _of_letters(evidence: Observations, consumer: Subscriber, said: Said) -> Iterator[Cause]:
    """The event itself, or the one of its key that it waits behind."""
    service = evidence.services[consumer.service]
    mine = [each for each in evidence.keys[consumer.service].letters if each.consumer == consumer.name]
    head = next((each for each in mine if each.state is not Waits.HELD), None)
    if head is None:
        return
    show = f"orderflow dlt show {head.event_id}"
    writers = {evidence.services[name].release for name, key in evidence.keys.items() if said in key.said}
    if head.error == UndecodableError.__name__ and service.release and writers - {service.release, ""}:
        why = (
            f"it runs release {service.release}, which cannot read {_name(said.type)} of release "
            f"{min(writers)}: {_failure(head)}"
        )
        yield _cause(CauseKind.OLD_RELEASE, service, why, show, consumer.name)
    elif str(head.event_id) != said.event_id and _name(head.event_type) != _name(said.type):
        stands = "was given up" if head.state is Waits.DEAD else "is being retried"
        why = f"it waits behind {_named(head)}, which {stands}: {_failure(head)}"
        yield _cause(CauseKind.HELD, service, why, show, consumer.name)
    elif head.state is Waits.DEAD:
        why = f"it was given up after {_times(head.attempts, 'try', 'tries')}: {_failure(head)}"
        yield _cause(CauseKind.DEAD, service, why, show, consumer.name)
    else:
        why = f"it failed {_times(head.attempts, 'time', 'times')} and will be retried: {_failure(head)}"
        yield _cause(CauseKind.RETRYING, service, why, show, consumer.name)


def _of_outages(service: ServiceEvidence, consumer: Subscriber, said: Said) -> Iterator[Cause]:
    for each in service.outages:
        if each.consumer == consumer.name and each.event_type == said.type and each.state == "outage":
            why = f"{each.failing} of {each.tried} orders fail alike, so it is judged an outage: {each.error}"
            yield _cause(CauseKind.OUTAGE, service, why, "orderflow outage list", consumer.name)


def _of_discards(evidence: Observations, consumer: Subscriber, said: Said) -> Iterator[Cause]:
    if DISCARDED in _states(said, consumer, evidence):
        why = f"an operator discarded {_name(said.type)}, so it will never be handled there"
        yield _cause(
            CauseKind.DISCARDED, evidence.services[consumer.service], why, "orderflow dlt log", consumer.name
        )


def _of_bank(service: ServiceEvidence, asked: OpenQuestion, *, is_late: bool) -> Iterator[Cause]:
    if asked.attempts:
        why = f"the bank was asked {asked.attempts + 1} times and has not said what happened to the {asked.kind}"
        yield _cause(CauseKind.BANK_UNKNOWN, service, why, "orderflow payment list --state unknown", "gateway")
    elif is_late:
        why = f"the bank has not answered the {asked.kind} yet"
        yield _cause(CauseKind.BANK_SLOW, service, why, "orderflow health", "gateway")


def _of_transactions(service: ServiceEvidence, key: str, consumer: Subscriber, said: Said) -> Iterator[Cause]:
    """That nobody is given what comes after a transaction which does not end is why the consumer stalls."""
    found = [each for each in service.lag if (each.consumer, each.topic) == (consumer.name, said.topic)]
    partition = partition_of(key.encode(), len(found)) if found else -1
    for each in found:
        if each.partition == partition and each.lag and each.held:
            why = (
                f"a producer began a transaction on {said.topic}, partition {partition}, and has not ended it: "
                f"consumers get nothing after it ({_times(each.held, 'record', 'records')} in all)"
            )
            yield _cause(CauseKind.TRANSACTION, service, why, "orderflow lag --partitions", consumer.name)


def _of_components(service: ServiceEvidence, step: PendingStep) -> Iterator[Cause]:
    """What the service says that it waits for, and the faults that are set on purpose and not seen in that."""
    part = step.consumer.name if step.consumer else "relay" if step.said else ""
    yield from _of_problems(service, part)
    for fault in service.faults:
        if not any(fault in why for why in service.problems.values()):
            yield _cause(CauseKind.FAULT, service, f"a fault is set on purpose: {fault}", "orderflow fault list")


def _of_problems(service: ServiceEvidence, own: str = "") -> Iterator[Cause]:
    """First what others stand on, then the part that has to do the step: `own` is in its name."""

    def rank(problem: tuple[str, str]) -> tuple[bool, bool]:
        return problem[0] not in STOOD_ON, not own or own not in problem[0]

    for component, why in sorted(service.problems.items(), key=rank):
        yield _of_problem(service, component, why)


def _of_problem(service: ServiceEvidence, component: str, why: str) -> Cause:
    if any(fault in why for fault in service.faults):
        return _cause(CauseKind.FAULT, service, f"it is set on purpose: {why}", "orderflow fault list", component)
    return _cause(CauseKind.COMPONENT, service, why, "orderflow health", component)


def _of_expired(service: ServiceEvidence, consumer: Subscriber, said: Said) -> Iterator[Cause]:
    lost = sum(each.count for each in service.expired if (each.consumer, each.topic) == (consumer.name, said.topic))
    if lost:
        records = _times(lost, "record", "records")
        why = f"{records} of {said.topic} expired before it read them"
        yield _cause(CauseKind.EXPIRED, service, why, "orderflow expired list", consumer.name)


def _of_lag(
    service: ServiceEvidence, key: str, consumer: Subscriber, said: Said, *, is_late: bool
) -> Iterator[Cause]:
    found = [each for each in service.lag if (each.consumer, each.topic) == (consumer.name, said.topic)]
    partition = partition_of(key.encode(), len(found)) if found else -1
    behind = next((each.lag for each in found if each.partition == partition), 0)
    if is_late and behind:
        records = _times(behind, "record", "records")
        why = f"it is {records} behind on {said.topic}, partition {partition}, where the order is"
        yield _cause(CauseKind.BEHIND, service, why, "orderflow lag --partitions", consumer.name)
    elif is_late and found and not service.problems:
        why = f"it has read all of {said.topic}, partition {partition}, and {_name(said.type)} was not in it"
        yield _cause(CauseKind.LOST, service, why, f"orderflow audit --repair --order {key}", consumer.name)


def _at_the_end(evidence: Observations, *, is_late: bool) -> Iterator[Cause]:
    """Nothing is under way. An order that has not ended then will not by itself."""
    order = evidence.order
    if order is None:
        return
    if order.refund == "refused":
        why = "the bank refuses the refund"
        yield _cause(
            CauseKind.REFUND_REFUSED, evidence.services["payment"], why, f"orderflow payment show {order.id}"
        )
    elif is_late and (order.status not in FINAL or order.refund == "due"):
        why = "nothing is under way to move it on: an event or its effect was lost, or an operator gave it up"
        yield _cause(CauseKind.NOTHING_OWED, evidence.services["order"], why, "orderflow audit --repair")


def _cause(kind: CauseKind, service: ServiceEvidence, why: str, command: str, component: str = "") -> Cause:
    return Cause(kind=kind, service=service.name, component=component, why=why, command=command)


def late_after_s(usual: UsualAge | None) -> float:
    """The age at which an order is late. Those that an outage has held up, and that came past the step after it, must
    not make the next ones wait as long: half of all orders tell how far that may go.
    """
    if usual is None:
        return UNKNOWN_USUAL_S
    return max(1.0, min(LATE_SHARE * usual.most_s, max(UNKNOWN_USUAL_S, LATE_SHARE_OF_HALF * usual.half_s)))


def _usual(evidence: Observations, step: PendingStep | None) -> UsualAge | None:
    """None where nobody has come past the step, and of a service whose clock is off."""
    if step is None or step.consumer is None or step.said is None:
        return None
    service = evidence.services[step.service]
    return None if CLOCK_ALARM in service.alarms else service.usual.get((step.consumer.name, step.said.type))


def _timeline(evidence: Observations) -> list[TimelineEntry]:
    """Everything that has a time, in its order."""
    marks: list[TimelineEntry] = []
    if evidence.order is not None:
        for step in evidence.order.history:
            stands = f"refund {step.refund}" if step.refund else step.status
            marks.append(TimelineEntry(at=step.at, service="order", what=f"{stands}, by {step.event}"))
    for service, known in evidence.keys.items():
        types = {each.event_id: _name(each.type) for other in evidence.keys.values() for each in other.said}
        types |= {str(each.event_id): _named(each) for each in known.letters}
        marks += _marks_of(service, known, types)
    return sorted(marks, key=lambda mark: mark.at)


def _marks_of(service: str, known: KeyEvidence, types: Mapping[str, str]) -> Iterable[TimelineEntry]:
    for each in known.trail.received:
        if each.at is not None:
            name = types.get(str(each.event_id)) or _known_as(each)
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


def _known_as(received: ReceivedEvent) -> str:
    """An inbox that acts once for a type and a key has the type; others have ids alone."""
    if "." in received.identity:
        return received.identity.rpartition(".")[2]
    return "a notice from elsewhere" if received.consumer.endswith(OF_FLOW) else "the bank's answer"


def _marks_of_letter(service: str, letter: DeadLetter) -> Iterator[TimelineEntry]:
    name, event_id = _named(letter), str(letter.event_id)
    yield TimelineEntry(
        at=letter.parked_at, service=service, what=f"{letter.consumer} parked: {name}", event_id=event_id
    )
    if letter.last_failed_at is not None:
        stands = "gave up" if letter.state is Waits.DEAD else "failed"
        what = f"{letter.consumer} {stands} (try {letter.attempts}): {name}: {_failure(letter)}"
        yield TimelineEntry(at=letter.last_failed_at, service=service, what=what, event_id=event_id)


def _times(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _failure(letter: DeadLetter) -> str:
    return f"{letter.error}: {letter.message}"


def _named(letter: DeadLetter) -> str:
    return _name(letter.event_type) or "a record that names no event"


def _name(wire: str) -> str:
    """`orderflow.OrderPlaced.v1` → `OrderPlaced`."""
    return wire.rpartition(".v")[0].rpartition(".")[2] or wire
