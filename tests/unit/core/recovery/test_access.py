"""Who may act is asked where the act is done, whatever door it came in by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from orderflow.core.access import ANONYMOUS, STRANGER, Caller, ForbiddenError, Role
from orderflow.core.failures import Verdict
from orderflow.core.operations.model import LetterFilter, RecoveryError, ReplayPlan
from orderflow.core.store import Act, OutboxFilter
from tests.unit.core.recovery.bench import Bench

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
    bench = Bench()
    others = [Caller("anna", frozenset({each})) for each in Role if each is not role]
    for caller in (ANONYMOUS, STRANGER, Caller("nobody"), Caller("all others", frozenset(Role) - {role}), *others):
        with pytest.raises(ForbiddenError, match=f"needs the role {role}"):
            await deed(bench, act_of(caller))
    assert await bench.recovery.store.actions(10) == []
    try:
        await deed(bench, act_of(Caller("anna", frozenset({role}))))
    except RecoveryError:
        """Whose act it is was no question any more."""
