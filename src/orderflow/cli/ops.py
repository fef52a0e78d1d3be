"""`orderflow ops`: what operators have done, and the proof that nobody has changed the record of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import click

from orderflow.cli.acting import act
from orderflow.cli.errors import CliError, NotFoundError, RequestRefusedError
from orderflow.cli.http import ServiceClient
from orderflow.cli.lazy import LazyCommand, LazyGroup
from orderflow.cli.output import text
from orderflow.cli.session import Session, ask, service_option, session_options
from orderflow.cli.tables import entry, table, when
from orderflow.registry import service_names

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orderflow.core.operations.hash_chain import ChainCheck

PAGE = 1_000
HASH_DIGITS = 64

COMMANDS = {
    "log": LazyCommand("orderflow.cli.dlt.show:log", "Show who did what, when and why."),
    "proposals": LazyCommand("orderflow.cli.ops:proposals", "Show proposals that wait for a second approver."),
    "approve": LazyCommand("orderflow.cli.ops:approve", "Carry out what another approver proposed."),
    "withdraw": LazyCommand("orderflow.cli.ops:withdraw", "Withdraw a proposal."),
    "verify": LazyCommand("orderflow.cli.ops:verify", "Prove that nobody has changed the operators' log."),
}


@click.group(cls=LazyGroup, commands_by_name=COMMANDS)
def ops() -> None:
    """What operators did: who did what, and proof that the log is intact.

    Every action is a row in the log of the service that carried it out, written in the same transaction and linked
    to the row before it by a hash. With ORDERFLOW_TWO_PERSON=yes, what takes an approver takes two: one proposes it,
    another carries it out.

    \b
    orderflow ops log                    who did what, when and why
    orderflow ops proposals              what waits for a second approver
    orderflow ops verify                 whether the logs are as they were written
    """


class ChainHead(NamedTuple):
    """The last row of a service's log, as somebody has kept it. Without `service`, only the hash is known."""

    service: str
    number: int
    hash: str

    @classmethod
    def parsed(cls, text: str) -> ChainHead:
        """From `payment:12:HASH` or a hash alone. Raises click.BadParameter."""
        service, _, rest = text.strip().rpartition(":")
        service, _, number = service.partition(":")
        is_hash = len(rest) == HASH_DIGITS and all(digit in "0123456789abcdef" for digit in rest)
        if is_hash and not service and not number:
            return cls("", 0, rest)
        if is_hash and service in service_names() and number.isdecimal():
            return cls(service, int(number), rest)
        raise click.BadParameter(
            f"{text!r} is not a head. Expected: SERVICE:NUMBER:HASH as `orderflow ops verify` prints it, or the "
            "hash alone"
        )


class Proof(NamedTuple):
    """What was found of one service's log; `problems` are sentences."""

    rows: int
    head: ChainHead
    problems: Sequence[str]


@click.command()
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="HEAD",
    help="A head that was printed before: it must still be in its log. Repeatable.",
)
@service_option
@session_options
def verify(session: Session, expected: Sequence[str], service: str | None) -> None:
    """Prove that the operators' log of every service is as it was written.

    Each row holds a SHA-256 over the row before it and its own content. All are read and computed again: a row that
    was changed, removed or replaced does not fit, and the first such row is named.

    A log whose last rows were cut off still fits. To detect that, keep the heads that this command prints in another
    place, out of an attacker's reach, and pass them to a later run with --expect.

    Exit code: 0 all logs fit, 1 one does not, or lacks an expected head, 3 a service did not answer.

    \b
    orderflow ops verify
    orderflow ops verify --json | jq -r '.services[].head'
    orderflow ops verify --expect payment:12:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    """
    heads = [ChainHead.parsed(each) for each in expected]
    answers = ask(session, _read, service)
    found = {name: _judge(name, check, heads) for name, check in answers.found.items()}
    lost = [] if answers.away else _nowhere(heads, answers.found.values())
    if session.out.as_json:
        session.out.document(_document(found, lost, answers.away))
    else:
        _show(session, found)
        session.out.show(*answers.sentences())
    wrong = [f"{name}: {problem}" for name, verdict in found.items() for problem in verdict.problems] + lost
    if wrong:
        raise CliError(f"The operators' log is not as it was written. {'; '.join(wrong)}")
    answers.require_all()


@click.command()
@click.option("--all", "every", is_flag=True, help="Include those that are done, withdrawn or expired.")
@session_options
def proposals(session: Session, every: bool) -> None:
    """Show what approvers proposed, latest first: what exactly, by whom, why, and until when it can be approved.

    \b
    orderflow ops proposals
    orderflow ops proposals --all --json | jq -r '.proposals[] | [.service, .id, .who, .state] | @tsv'
    """
    asked: dict[str, str | int] = {} if every else {"open": "true"}
    answers = ask(session, lambda client: client.get("/ops/proposals", asked))
    found = answers.rows()
    session.answer(answers, {"proposals": found}, _parts_of_proposals(found))


def _decision(command: Any) -> Any:
    """What a decision on a proposal is given."""
    number = click.argument("proposal", type=click.UUID)
    yes = click.option("--yes", is_flag=True, help="Confirm.")
    reason = click.option("--reason", metavar="TEXT", required=True, help="Why; recorded in the operators' log.")
    return number(yes(reason(command)))


@click.command()
@_decision
@session_options
def approve(session: Session, proposal: UUID, yes: bool, reason: str) -> None:
    """Carry out what another approver proposed: exactly that, as if you asked for it now.

    Look at it first: orderflow ops proposals. You cannot approve your own proposal.

    Exit code: 0 done, 3 a service did not answer, 4 there is no such proposal, 5 refused: not confirmed, no longer
    open, your own, or no longer possible.

    \b
    orderflow ops approve 01981c5e-7a40-7000-8000-0123456789ab --yes --reason "I have seen the statement too"
    """
    if not yes:
        raise RequestRefusedError(
            "Two people answer for this. See it with: orderflow ops proposals. To confirm, add: --yes"
        )
    done = _decide(session, proposal, "approve", reason)
    session.out.answer(done, [text(f"It is carried out: {json.dumps(done)}")])


@click.command()
@_decision
@session_options
def withdraw(session: Session, proposal: UUID, yes: bool, reason: str) -> None:
    """Withdraw a proposal, so that it can no longer be approved. Any approver may.

    \b
    orderflow ops withdraw 01981c5e-7a40-7000-8000-0123456789ab --yes --reason "the wrong SKU"
    """
    if not yes:
        raise RequestRefusedError("See it with: orderflow ops proposals. To withdraw it, add: --yes")
    gone = _decide(session, proposal, "withdraw", reason)
    session.out.answer(gone, [text(f"{gone['operation']} is withdrawn.")])


def _decide(session: Session, proposal: UUID, decision: str, reason: str) -> Any:
    """At the service that has it. Raises CliError."""
    answers = ask(session, lambda client: client.get("/ops/proposals", {"limit": PAGE}))
    owners = [name for name, told in answers.found.items() if any(each["id"] == str(proposal) for each in told or ())]
    if not owners:
        answers.require_all()
        raise NotFoundError(f"There is no proposal {proposal}.")
    with session.client(owners[0]) as client:
        return act(client, "POST", f"/ops/proposals/{proposal}/{decision}", {"reason": reason, "confirmed": True})


def _parts_of_proposals(found: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    if not found:
        yield "Nothing waits for a second approver."
    for each in found:
        head = (text(each["id"], "bold"), text(each["service"]), text(each["state"], "cyan"), text(each["operation"]))
        made = text(f"proposed by {each['who']}: {each['reason'] or 'no reason given'}", "yellow")
        decided = text(f"{each['state']} by {each['decided_by']}" if each["decided_by"] else "")
        yield from entry((*head, when(each["until"], "dim")), (text(each["request"]), made, decided))


def _read(client: ServiceClient) -> ChainCheck:
    """The whole log of one service, latest first. Raises CliError."""
    from orderflow.core.operations.hash_chain import ChainCheck
    from orderflow.core.operations.model import OperatorAction

    check = ChainCheck()
    asked: dict[str, str | int] = {"limit": PAGE}
    while page := client.read(list[OperatorAction], "/ops/actions", asked):
        check.read(page)
        asked["before"] = page[-1].number
    check.end()
    return check


def _judge(name: str, check: ChainCheck, heads: Iterable[ChainHead]) -> Proof:
    number, digest = check.head
    problems = [f"row {check.first.number} does not fit: {check.first.why}"] if check.first else []
    mine = [head for head in heads if head.service == name and head.number]
    problems += [_missing(head, number) for head in mine if check.hashes.get(head.number) != head.hash]
    return Proof(check.rows, ChainHead(name, number, digest), problems)


def _missing(head: ChainHead, last: int) -> str:
    if head.number <= last:
        return f"row {head.number} is not the one that was expected"
    gone = f"row {head.number} is" if head.number == last + 1 else f"rows {last + 1} to {head.number} are"
    return f"{gone} missing at the end: a head was expected there"


def _nowhere(heads: Iterable[ChainHead], checks: Iterable[ChainCheck]) -> list[str]:
    """Heads of which only the hash is known, and that no log holds."""
    known = {digest for check in checks for digest in check.hashes.values()}
    return [f"no row has the hash {head.hash}" for head in heads if not head.service and head.hash not in known]


def _document(found: Mapping[str, Proof], lost: Sequence[str], away: Mapping[str, str]) -> Any:
    services = {
        name: {"rows": verdict.rows, "head": _told(verdict.head), "problems": list(verdict.problems)}
        for name, verdict in found.items()
    }
    return {"services": services, "problems": list(lost), "unreachable": dict(away)}


def _show(session: Session, found: Mapping[str, Proof]) -> None:
    rows = [
        (name, verdict.rows, text("does not fit", "red") if verdict.problems else text("fits", "green"))
        for name, verdict in found.items()
    ]
    session.out.show(table(("service", "rows", "log"), rows, right=("rows",)))
    session.out.show("For --expect, keep these heads out of reach of anyone who acts here:")
    session.out.show(*(text(_told(verdict.head)) for verdict in found.values()))


def _told(head: ChainHead) -> str:
    return ":".join(map(str, head))
