"""Who may act is asked where the act is done, whatever door it came in by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import ClassVar

import pytest

from orderflow.core.access import ANONYMOUS, APPROVE, STRANGER, Caller, ForbiddenError, Permission, Role
from orderflow.core.failures import Verdict
from orderflow.core.messages import Command, Envelope
from orderflow.core.operations.model import LetterFilter, RecoveryError, ReplayPlan
from orderflow.core.service import Decision, Handler, RefusedError, Rows
from orderflow.core.store import Act, OutboxFilter
from tests.unit.core.recovery.bench import Bench
from tests.unit.core.toy import touches


class Move(Command, frozen=True, kw_only=True):
    """Moves money, say."""

    TYPE: ClassVar[str] = "toy.Move"
    PERMISSION: ClassVar[Permission] = APPROVE

    name: str

    @property
    def key(self) -> str:
        return self.name


def moved(_rows: Rows, _envelope: Envelope) -> Decision:
    raise RefusedError("there is no money here")


def bench_that_moves() -> Bench:
    bench = Bench()
    service = bench.world.service
    bench.world.service = replace(service, handlers={**service.handlers, Move: Handler(touches, moved)})
    bench.world.processor = bench.processor()
    bench.engine = bench.process()
    return bench


def all_but(role: Role) -> list[Caller]:
    others = [Caller("anna", frozenset({each})) for each in Role if each is not role]
    return [ANONYMOUS, STRANGER, Caller("nobody"), Caller("all others", frozenset(Role) - {role}), *others]


Deed = Callable[[Bench, Act], Awaitable[object]]
BY_OPERATORS: dict[str, Deed] = {
    "replay": lambda bench, act: bench.recovery.replay(LetterFilter(), ReplayPlan(), act),
    "pause": lambda bench, act: bench.recovery.pause(1, act),
    "resume": lambda bench, act: bench.recovery.resume(1, act),
    "republish": lambda bench, act: bench.recovery.republish(OutboxFilter(), act),
    "edit": lambda bench, act: bench.recovery.edit(1, b"{}", act),
    "discard": lambda bench, act: bench.recovery.discard(1, act),
    "annotate": lambda bench, act: bench.recovery.annotate("f", "note", act),
    "acknowledge": lambda bench, act: bench.recovery.acknowledge_expired("counter", act),
    "overrule": lambda bench, act: bench.engine.overruling.overrule("counter", "Counted", Verdict.POISON, act),
}
BY_APPROVERS: dict[str, Deed] = {
    "repair": lambda bench, act: bench.engine.carry_out(Move(name="a"), act),
    "say again": lambda bench, act: bench.recovery.repairs.say_again("k", (), act, ask=True, flow=False),
}


def act_of(caller: Caller) -> Act:
    return Act(caller=caller, reason="because", confirmed=True)


@pytest.mark.parametrize(
    ("deed", "role"),
    [
        *((each, Role.OPERATOR) for each in BY_OPERATORS.values()),
        *((each, Role.APPROVER) for each in BY_APPROVERS.values()),
    ],
    ids=[*BY_OPERATORS, *BY_APPROVERS],
)
async def test_an_act_is_done_for_its_role_alone(deed: Deed, role: Role) -> None:
    bench = bench_that_moves()
    for caller in all_but(role):
        with pytest.raises(ForbiddenError, match=f"needs the role {role}"):
            await deed(bench, act_of(caller))
    assert await bench.recovery.store.actions(10) == []
    try:
        await deed(bench, act_of(Caller("anna", frozenset({role}))))
    except (RecoveryError, RefusedError):
        """Whose act it is was no question any more."""


async def test_a_command_is_carried_in_for_its_role_alone() -> None:
    bench = bench_that_moves()
    async with bench.started() as engine:
        for caller in all_but(Role.APPROVER):
            for by in (caller, act_of(caller)):
                with pytest.raises(ForbiddenError, match="needs the role approver"):
                    await engine.submit(Move(name="a"), by)
        assert await engine.recovery.store.actions(10) == []
        with pytest.raises(RefusedError, match="no money"):
            await engine.submit(Move(name="a"), Caller("anna", frozenset({Role.APPROVER})))
