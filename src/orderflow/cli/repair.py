"""`orderflow audit --repair`: what the services can heal of an audit's findings, shown first, then carried out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
import msgspec

from orderflow.audit.findings import CATALOGUE, Finding, Report
from orderflow.audit.repair import Person, RepairAction, RepairPlan, RepairStep, for_persons, orders_of, plan
from orderflow.cli.acting import act
from orderflow.cli.errors import CliError, RequestRefusedError, counted
from orderflow.cli.http import ServiceClient
from orderflow.cli.output import text
from orderflow.cli.repair_options import RepairRequest
from orderflow.cli.session import Session
from orderflow.cli.tables import entry, ident
from orderflow.core.operations.repairing import Regarded, Standing
from orderflow.registry import service_names

if TYPE_CHECKING:
    from rich.console import RenderableType

ROUNDS_MAX = 5
"""What one round sets going can make the next one possible. An order of which every service has lost what it heard
comes to its end in four: OrderPlaced, PaymentSucceeded, StockRejected, PaymentRefunded.
"""

Clients = Mapping[str, ServiceClient]


@dataclass(slots=True)
class Repaired:
    """`plans` are the rounds that were made; `failed` the steps that a service did not carry out, and why."""

    plans: list[RepairPlan] = field(default_factory=list)
    failed: list[tuple[RepairStep, str]] = field(default_factory=list)
    carried_out: int = 0


def repair(session: Session, look: Callable[[], Report], asked: RepairRequest) -> tuple[Report, dict[str, Any]]:
    """Look, plan, ask, carry out, and look again, until nothing is left that events can heal.

    Returns the last report, and for programs what was done. Raises click.UsageError (no such kind), RefusedError (it
    is not meant; the plan was shown), UnreachableError.
    """
    _require_repairable(asked.kinds)
    report, done = look(), Repaired()
    with ExitStack() as stack:
        clients = {name: stack.enter_context(session.client(name)) for name in service_names()}
        for number in range(ROUNDS_MAX):
            meant = [finding for finding in report.findings if _is_meant(finding, asked)]
            found = _planned(clients, meant)
            if number and not found.steps:
                break
            done.plans.append(found)
            if not session.out.as_json:
                session.out.show(*_parts(found))
            if not found.steps:
                break
            _carry_out(clients, found, _agreed(session, found, asked), done)
            report = look()
    return report, {"repair": _document(done)}


def _document(done: Repaired) -> dict[str, Any]:
    return {
        "rounds": sum(bool(each.steps) for each in done.plans),
        "carried_out": done.carried_out,
        "steps": [
            {
                "order_id": step.order_id,
                "service": step.service,
                "act": str(step.act),
                "events": list(step.events),
                "what": str(step),
            }
            for each in done.plans
            for step in each.steps
        ],
        "failed": [
            {"order_id": step.order_id, "service": step.service, "act": str(step.act), "why": why}
            for step, why in done.failed
        ],
        "for_a_person": [
            {
                "kind": str(each.finding.kind),
                "subject": each.finding.subject,
                "why": each.why,
                "remedy": _remedy(each),
            }
            for each in (done.plans[-1].persons if done.plans else ())
        ],
    }


def _require_repairable(kinds: Sequence[str]) -> None:
    healed = [str(kind) for kind, info in CATALOGUE.items() if info.repair]
    for name in kinds:
        if name not in healed:
            raise click.UsageError(f"{name!r} is not a kind that can be repaired. Expected: {', '.join(healed)}")


def _is_meant(finding: Finding, asked: RepairRequest) -> bool:
    return (not asked.kinds or finding.kind in asked.kinds) and (not asked.orders or finding.subject in asked.orders)


def _planned(clients: Clients, findings: Sequence[Finding]) -> RepairPlan:
    whole = RepairPlan(persons=list(for_persons(findings)))
    for order_id, found in orders_of(findings).items():
        path = f"/ops/repairs/{order_id}"
        standings = {name: msgspec.convert(client.get(path), Standing) for name, client in clients.items()}
        regards: dict[str, Sequence[Regarded]] = {}
        for name, client in clients.items():
            others = [each for other, standing in standings.items() if other != name for each in standing.said]
            told = client.ask("POST", f"{path}/regard", body={"said": msgspec.to_builtins(others)}).body
            regards[name] = msgspec.convert(told, list[Regarded])
        whole.add(plan(order_id, found, standings, regards))
    return whole


def _agreed(session: Session, found: RepairPlan, asked: RepairRequest) -> str:
    """Why it is done. Raises RequestRefusedError, click.Abort."""
    if asked.yes and asked.reason.strip():
        return asked.reason
    if session.out.as_json or not sys.stdin.isatty():
        steps = counted(len(found.steps), "step")
        raise RequestRefusedError(
            f"This repairs by {steps}, and can move money and stock. To confirm, add: --yes --reason TEXT"
        )
    click.confirm("Carry this out?", abort=True, err=True)
    return asked.reason or str(click.prompt("Why? This goes into the operators' log", err=True))


def _carry_out(clients: Clients, found: RepairPlan, reason: str, done: Repaired) -> None:
    """What one service cannot do does not keep the others from their part."""
    for step in found.steps:
        try:
            _ask(clients[step.service], step, {"reason": reason, "confirmed": True})
        except CliError as error:
            done.failed.append((step, str(error)))
        else:
            done.carried_out += 1


def _ask(client: ServiceClient, step: RepairStep, meant: Mapping[str, object]) -> None:
    path = f"/ops/repairs/{step.order_id}"
    match step.act:
        case RepairAction.TAKE_AGAIN:
            [said] = step.said
            act(client, "POST", f"{path}/take-again", {"said": msgspec.to_builtins(said), **meant})
        case RepairAction.SAY_AGAIN:
            types = [each.type for each in step.said]
            act(client, "POST", f"{path}/say-again", {"types": types, **meant})
        case RepairAction.ASK_AGAIN:
            act(client, "POST", f"{path}/say-again", {"ask": True, **meant})
        case RepairAction.SHOW:
            act(client, "POST", f"{path}/say-again", {"flow": True, **meant})
        case RepairAction.RELEASE:
            failed, reserved = (msgspec.json.decode(each.value) for each in step.said)
            because = {"customer_id": failed["customer_id"], "failed_because": failed["reason"]}
            body = {**because, "lines": reserved["lines"], **meant}
            act(client, "POST", f"/reservations/{step.order_id}/release", body)


def _parts(found: RepairPlan) -> Iterator[RenderableType]:
    kinds: dict[str, dict[str, None]] = {}
    for healed in found.heals:
        kinds.setdefault(healed.subject, {})[str(healed.kind)] = None
    for order_id, of_order in kinds.items():
        steps = [step for step in found.steps if step.order_id == order_id]
        below = (text(f"{step.service} {step}") for step in steps)
        yield from entry((text("repair", "yellow"), ident(order_id), text(", ".join(of_order))), below)
    for each in found.persons:
        finding = each.finding
        head = (text("a person", "red"), ident(finding.subject), text(f"{finding.kind}: {finding.what}"))
        yield from entry(head, (text(each.why), text(_remedy(each), "cyan")))
    if not found.steps:
        yield "There is nothing that the services can repair themselves."


def _remedy(person: Person) -> str:
    return person.remedy.replace("ORDER", person.finding.subject)
