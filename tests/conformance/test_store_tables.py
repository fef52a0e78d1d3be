"""Rows and facts: versions, steps, and what the tables refuse, for both stores."""

from __future__ import annotations

import pytest

from orderflow.core.service import Ref
from orderflow.core.store import DataRefusedError, Plan, Store, TransitionRefusedError
from tests.conformance.store_tables import Counter, Move, Parcel, ParcelState
from tests.conformance.store_values import changes, commit

PARCEL = Ref(Parcel, "p")
PACKED = Parcel(parcel_id="p")
SENT = Parcel(parcel_id="p", state=ParcelState.SENT)
ARRIVED = Parcel(parcel_id="p", state=ParcelState.ARRIVED)


async def load(store: Store, ref: Ref) -> object:
    async with store.transaction() as tx:
        return (await tx.open(Plan("shop", rows=[ref]))).rows.get(ref)


async def test_the_last_version_of_a_batch_is_what_is_kept(store: Store) -> None:
    first = Counter(counter_id="a", value=1)
    last = Counter(counter_id="a", value=5)
    await commit(store, changes(rows=[first, Counter(counter_id="b", value=2), last]))
    assert await load(store, first.ref) == last
    await commit(store, changes(rows=[first, last, first], existing=frozenset({first.ref})))
    assert await load(store, first.ref) == first


async def test_versions_in_between_are_not_held_against_a_table_that_is_not_stepwise(store: Store) -> None:
    await commit(store, changes(rows=[Counter(counter_id="a", value=-1), Counter(counter_id="a", value=1)]))
    assert await load(store, Ref(Counter, "a")) == Counter(counter_id="a", value=1)


async def test_a_stepwise_table_sees_every_version_also_of_a_new_row(store: Store) -> None:
    other = [Parcel(parcel_id="q"), Parcel(parcel_id="q", state=ParcelState.SENT)]
    await commit(store, changes(rows=[PACKED, other[0], SENT, ARRIVED, other[1]]))
    assert await load(store, PARCEL) == ARRIVED
    assert await load(store, other[1].ref) == other[1]


async def test_a_stepwise_table_sees_every_version_of_a_loaded_row(store: Store) -> None:
    await commit(store, changes(rows=[PACKED]))
    await commit(store, changes(rows=[SENT, ARRIVED], existing=frozenset({PARCEL})))
    assert await load(store, PARCEL) == ARRIVED


@pytest.mark.parametrize(
    "rows", [[SENT], [PACKED, ARRIVED], [PACKED, SENT, PACKED], [PACKED, SENT, ARRIVED, ARRIVED]]
)
async def test_a_step_that_is_not_allowed_is_refused_with_the_sqlstate_of_its_rule(
    store: Store, rows: list[Parcel]
) -> None:
    with pytest.raises(TransitionRefusedError) as refused:
        await commit(store, changes(rows=rows))
    assert (refused.value.sqlstate, refused.value.named) == ("OF001", set())
    assert await load(store, PARCEL) is None


async def test_a_broken_constraint_is_named(store: Store) -> None:
    with pytest.raises(DataRefusedError) as refused:
        await commit(store, changes(rows=[Counter(counter_id="b", value=1), Counter(counter_id="a", value=-1)]))
    assert (refused.value.sqlstate, refused.value.constraint) == ("23514", "counters_value_not_negative")
    assert {"a", "b"} & refused.value.named == {"a"}


async def test_a_row_said_to_be_new_that_is_there_is_refused(store: Store) -> None:
    await commit(store, changes(rows=[Counter(counter_id="a", value=1)]))
    with pytest.raises(DataRefusedError) as refused:
        await commit(store, changes(rows=[Counter(counter_id="a", value=2)]))
    assert (refused.value.sqlstate, refused.value.named) == ("23505", {"a"})
    assert await load(store, Ref(Counter, "a")) == Counter(counter_id="a", value=1)


async def test_a_row_said_to_be_there_that_is_not_is_refused(store: Store) -> None:
    row = Counter(counter_id="a", value=2)
    with pytest.raises(DataRefusedError):
        await commit(store, changes(rows=[row], existing=frozenset({row.ref})))


async def test_a_fact_is_added_once(store: Store) -> None:
    fact = Move(parcel_id="p", number=1, place="x")
    await commit(store, changes(facts=[fact, Move(parcel_id="p", number=2, place="x")]))
    with pytest.raises(DataRefusedError) as refused:
        await commit(store, changes(facts=[Move(parcel_id="p", number=1, place="elsewhere")]))
    assert (refused.value.sqlstate, refused.value.named) == ("23505", {"p", "1"})


async def test_a_fact_twice_in_one_batch_is_refused(store: Store) -> None:
    fact = Move(parcel_id="p", number=1, place="x")
    with pytest.raises(DataRefusedError):
        await commit(store, changes(facts=[fact, fact]))
    await commit(store, changes(facts=[fact]))
