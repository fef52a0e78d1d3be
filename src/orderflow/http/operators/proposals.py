"""`/ops/proposals`: what one approver has proposed, and another has to ask for as well before it is done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from orderflow.core.access import APPROVE
from orderflow.core.operations.model import (
    ConfirmationNeededError,
    Proposal,
    ProposalState,
    SecondPersonNeededError,
)
from orderflow.core.operations.port import RecoveryStore
from orderflow.http.operation import Example, Handler, Operation, Parameter, Reply, Request, Response
from orderflow.http.operators.asking import CONFIRM, NOT_THERE, OPERATOR, Limit, Text, act_of, operator, route
from orderflow.http.problems import ProblemError

ACCEPTED = 202
_UNKNOWN = datetime.fromtimestamp(0, UTC)
"""The store gives a proposal its times."""

_PROPOSAL: dict[str, Any] = {
    "id": Example.ORDER_ID,
    "operation": "PUT /stock/{sku}",
    "request": '{"values":{"sku":"SKU-ESPRESSO-CUP"},"body":{"on_hand":3}}',
    "who": "anna",
    "reason": "counted on Thursday",
    "made_at": Example.PLACED_AT,
    "until": "2026-11-27T12:26:36.796960Z",
    "state": "open",
    "decided_by": "",
}
PROPOSED = Response(
    ACCEPTED,
    "This takes two approvers, and is now proposed: it is done once another one requests the same",
    Proposal,
    example=_PROPOSAL,
)


class DecisionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why; `confirmed`: a person has confirmed it."""

    reason: Text = ""
    confirmed: bool = False


class Proposals:
    """Makes a proposal of what takes two approvers when the first one asks, and carries it out when another does.

    What the first one has asked for is kept as it came: the same handler takes it again.
    """

    def __init__(self, store: RecoveryStore, new_id: Callable[[], UUID]) -> None:
        self._store = store
        self._new_id = new_id
        self._known: dict[str, Operation] = {}

    def over(self, operations: Iterable[Operation]) -> Sequence[Operation]:
        """The operations, of which those that can answer PROPOSED do so when it takes a second person."""
        return [self._proposing(each) if PROPOSED in each.responses else each for each in operations]

    async def listed(self, request: Request[None]) -> Reply:
        """What was proposed, latest first.

        With `open`, only proposals that can still be approved, by an approver other than the proposer.
        """
        APPROVE.require(request.caller)
        only_open: bool = request.values["open"]
        return Reply(body=await self._store.proposals(request.values["limit"], only_open=only_open))

    async def approve(self, request: Request[DecisionRequest]) -> Reply:
        """Carry out what another approver proposed.

        Does exactly that, as if requested now, and answers as the operation does. Refused if it can no longer be
        done.
        """
        act = act_of(request, reason=request.body.reason, confirmed=request.body.confirmed)
        APPROVE.require(act.caller)
        proposal = await self._open(request.values["id"])
        if not (act.confirmed and act.reason.strip()):
            raise ConfirmationNeededError("Two approvers answer for this: confirm it, and give a reason.")
        operation = self._known.get(proposal.operation)
        if operation is None:
            raise ProblemError(409, f"this release has no operation {proposal.operation}: propose it again")
        if proposal.who == act.caller.name:
            raise ProblemError(409, "you proposed it yourself: another approver has to request it")
        return await operation.handler(_again(operation, proposal, request))

    async def withdraw(self, request: Request[DecisionRequest]) -> Reply:
        """Withdraw a proposal: it can no longer be approved.

        Any approver may do this, whoever proposed it.
        """
        act = act_of(request, reason=request.body.reason, confirmed=request.body.confirmed)
        APPROVE.require(act.caller)
        number: UUID = request.values["id"]
        await self._open(number)
        if not await self._store.withdraw(number, act):
            raise ProblemError(409, "the proposal is no longer open")
        return Reply(body=await self._store.proposal(number))

    def operations(self) -> Sequence[Operation]:
        number = Parameter("id", "path", "The proposal's id", UUID)
        listing = (
            Parameter("limit", "query", "Maximum number of entries", Limit, default=100),
            Parameter("open", "query", "Only open proposals", bool, default=False),
        )
        told = Response(200, "Latest first", list[Proposal], example=[_PROPOSAL])
        withdrawn = {**_PROPOSAL, "state": "withdrawn", "decided_by": "berta"}
        return (
            route("GET /ops/proposals", self.listed, told, parameters=listing, permission=APPROVE),
            route(
                "POST /ops/proposals/{id}/approve",
                self.approve,
                Response(
                    200,
                    "It is done; the answer is the operation's",
                    dict[str, Any],
                    example={"sku": "SKU-ESPRESSO-CUP", "on_hand": 3, "reserved": 0, "version": 2, "created": False},
                ),
                NOT_THERE,
                Response(409, "It can no longer be done, or it is your own"),
                CONFIRM,
                parameters=(number, operator),
                example={"reason": "I have looked at the shelf as well.", "confirmed": True},
                permission=APPROVE,
            ),
            route(
                "POST /ops/proposals/{id}/withdraw",
                self.withdraw,
                Response(200, "It is withdrawn", Proposal, example=withdrawn),
                NOT_THERE,
                Response(409, "It is no longer open"),
                parameters=(number, operator),
                example={"reason": "wrong SKU", "confirmed": True},
                permission=APPROVE,
            ),
        )

    async def _open(self, number: UUID) -> Proposal:
        proposal = await self._store.proposal(number)
        if proposal is None:
            raise ProblemError(404, "there is no such proposal")
        if proposal.state is not ProposalState.OPEN:
            raise ProblemError(409, f"the proposal is no longer open: it is {proposal.state}")
        return proposal

    def _proposing(self, operation: Operation) -> Operation:
        name = f"{operation.method} {operation.path}"
        self._known[name] = operation
        handler: Handler = partial(self._ask, operation, name)
        return replace(operation, handler=handler)

    async def _ask(self, operation: Operation, name: str, request: Request[Any]) -> Reply:
        """Do it, if it takes one person; else propose it, or, if somebody else has proposed the same, do it."""
        try:
            return await operation.handler(request)
        except SecondPersonNeededError:
            act = act_of(request, reason=getattr(request.body, "reason", ""))
        kept = _kept(operation, request)
        digest = hashlib.sha256(f"{name}\n{kept}".encode()).hexdigest()
        wanted = Proposal(
            id=self._new_id(),
            operation=name,
            request=kept,
            who=act.caller.name,
            reason=act.reason,
            made_at=_UNKNOWN,
            until=_UNKNOWN,
        )
        proposal = await self._store.propose(wanted, digest, act)
        if proposal.who == act.caller.name:
            return Reply(ACCEPTED, body=proposal)
        request.approves = proposal.id
        return await operation.handler(request)


def _kept(operation: Operation, request: Request[Any]) -> str:
    """What is asked for, as JSON, without who asks and why."""
    names = [each.name for each in operation.parameters if each.name != OPERATOR]
    values = {name: request.values[name] for name in names if request.values[name] is not None}
    body: Mapping[str, Any] = msgspec.to_builtins(request.body) if request.body is not None else {}
    meant = {name: value for name, value in body.items() if name not in ("reason", "confirmed")}
    return msgspec.json.encode({"values": values, "body": meant}, order="sorted").decode()


def _again(operation: Operation, proposal: Proposal, asked: Request[DecisionRequest]) -> Request[Any]:
    """The request that was proposed, by the one who approves it."""
    kept = msgspec.json.decode(proposal.request)
    values: dict[str, Any] = {OPERATOR: asked.values[OPERATOR]}
    for each in operation.parameters:
        if each.name != OPERATOR:
            given = kept["values"].get(each.name)
            values[each.name] = each.default if given is None else msgspec.convert(given, each.type, strict=False)
    body = None
    if operation.request is not None:
        fields = {field.name for field in msgspec.structs.fields(operation.request)}
        said = {"reason": asked.body.reason, "confirmed": asked.body.confirmed}
        told = {**kept["body"], **{name: value for name, value in said.items() if name in fields}}
        body = msgspec.convert(told, operation.request)
    return Request(body, b"", values, asked.traceparent, asked.caller, asked.gone, proposal.id)
