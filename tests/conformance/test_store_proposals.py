"""Proposals of what takes two approvers, for both stores."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from uuid import UUID

import pytest
from msgspec.structs import replace

from orderflow.core.identity import uuid7
from orderflow.core.inbox import InboxState
from orderflow.core.operations.model import Proposal, ProposalState
from orderflow.core.operations.port import OperatedStore
from orderflow.core.store import Act, DataRefusedError, LogEntry, ProposalClosedError
from tests.conformance.store_backends import Backend
from tests.conformance.store_values import changes, commit, entry
from tests.support.callers import person
from tests.support.waiting import eventually

LONG_AGO = datetime.fromtimestamp(0, UTC)
ANNA, BERTA = (Act(caller=person(name), reason="because", operator="desk") for name in ("anna", "berta"))
CHANCE = random.Random(1)


def wanted(request: str = '{"on_hand":3}') -> Proposal:
    return Proposal(
        id=uuid7(1_000, CHANCE),
        operation="PUT /stock/{sku}",
        request=request,
        who="",
        reason="",
        made_at=LONG_AGO,
        until=LONG_AGO,
    )


async def carry_out(store: OperatedStore, act: Act, number: UUID, key: str = "k") -> None:
    done = LogEntry(replace(act, approves=number), "set stock", key, "9 \u2192 3")
    await commit(store, changes(inbox=[entry(key, "1", InboxState.DONE)], log=[done]))


async def state_of(store: OperatedStore, number: UUID) -> tuple[ProposalState, str]:
    proposal = await store.recovery.proposal(number)
    assert proposal is not None
    return proposal.state, proposal.decided_by


async def test_the_same_is_proposed_once_while_it_is_open(backend: Backend, store: OperatedStore) -> None:
    other = await backend.open()
    first = await store.recovery.propose(wanted(), "digest", ANNA)
    assert (first.who, first.reason, first.state, first.request) == ("anna", "because", "open", '{"on_hand":3}')
    assert first.until > first.made_at > LONG_AGO
    same = await asyncio.gather(*(each.recovery.propose(wanted(), "digest", BERTA) for each in (store, other) * 3))
    assert same == [first] * 6
    another = await other.recovery.propose(wanted(), "other digest", BERTA)

    assert list(await store.recovery.proposals(10, only_open=True)) == sorted(
        [first, another], key=lambda each: each.id, reverse=True
    )
    assert len(await store.recovery.proposals(1, only_open=False)) == 1
    logged = [(each.who, each.action, each.target) for each in await store.recovery.actions(10)]
    assert logged == [
        ("berta (says desk)", "propose", f"proposal {another.id}"),
        ("anna (says desk)", "propose", f"proposal {first.id}"),
    ]
    assert await store.recovery.proposal(UUID(int=7)) is None


async def test_it_is_closed_by_the_transaction_that_carries_it_out_once_and_by_another(store: OperatedStore) -> None:
    number = (await store.recovery.propose(wanted(), "digest", ANNA)).id
    with pytest.raises(ProposalClosedError):
        await carry_out(store, replace(ANNA, operator="berta"), number)
    with pytest.raises(ProposalClosedError):
        await carry_out(store, BERTA, UUID(int=7))
    with pytest.raises(DataRefusedError):
        await commit(store, changes(log=[LogEntry(replace(BERTA, approves=number), "a", "b", "c")], released=[987]))
    assert await state_of(store, number) == (ProposalState.OPEN, "")

    await carry_out(store, BERTA, number)
    assert await state_of(store, number) == (ProposalState.DONE, "berta")
    with pytest.raises(ProposalClosedError):
        await carry_out(store, BERTA, number, "l")
    assert [each.action for each in await store.recovery.actions(10)] == ["set stock", "propose"]
    assert (await store.recovery.propose(wanted(), "digest", ANNA)).id != number


async def test_of_two_who_carry_it_out_at_once_one_does(backend: Backend, store: OperatedStore) -> None:
    other = await backend.open()
    number = (await store.recovery.propose(wanted(), "digest", ANNA)).id
    carla = replace(BERTA, caller=person("carla"))
    ended = await asyncio.gather(
        carry_out(store, BERTA, number, "k"), carry_out(other, carla, number, "l"), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in ended) == ["NoneType", "ProposalClosedError"]
    assert len(await store.recovery.actions(10)) == 2


async def test_one_that_is_withdrawn_or_too_old_cannot_be_carried_out(
    store: OperatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = (await store.recovery.propose(wanted(), "digest", ANNA)).id
    assert await store.recovery.withdraw(number, BERTA)
    assert not await store.recovery.withdraw(number, BERTA)
    assert await state_of(store, number) == (ProposalState.WITHDRAWN, "berta")
    with pytest.raises(ProposalClosedError):
        await carry_out(store, BERTA, number)

    for where in ("testing", "postgres"):
        monkeypatch.setattr(f"orderflow.core.{where}.recovery.PROPOSAL_HOLDS_MS", 50)
    old = (await store.recovery.propose(wanted(), "digest", ANNA)).id

    async def is_over() -> bool:
        return not await store.recovery.proposals(10, only_open=True)

    await eventually(is_over)
    with pytest.raises(ProposalClosedError):
        await carry_out(store, BERTA, old)
    assert not await store.recovery.withdraw(old, BERTA)
    told = {each.id: each.state for each in await store.recovery.proposals(10, only_open=False)}
    assert told == {number: ProposalState.WITHDRAWN, old: ProposalState.EXPIRED}
    assert (await store.recovery.propose(wanted(), "digest", ANNA)).id != old
