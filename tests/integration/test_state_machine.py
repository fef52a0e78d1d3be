"""The state machines: what code decides by and what PostgreSQL enforces are the same table."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg
import pytest

from orderflow.core.postgres import schema
from orderflow.core.postgres.schema import verify_machine
from orderflow.core.postgres.sessions import ILLEGAL_TRANSITION, Connection, connect
from orderflow.core.service import IllegalTransitionError, StateMachine
from orderflow.core.store import SchemaBehindError
from orderflow.services.order.model import MACHINE as ORDERS
from orderflow.services.order.service import SERVICE as ORDER
from orderflow.services.payment.model import MACHINE as PAYMENTS
from orderflow.services.payment.service import SERVICE as PAYMENT
from tests.support.decisions import id_of

MACHINES = {"orders": ORDERS, "payments": PAYMENTS}

Row = dict[str, Any]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Connection]:
    """Both services' tables in one database, for the sake of the test."""
    await schema.migrate(database_url, [*schema.schema_of(ORDER), *schema.schema_of(PAYMENT)[1:]])
    connection = await connect(database_url, application_name="test")
    yield connection
    await connection.close()


def order_row(status: str, version: int, event: str) -> Row:
    """Everything that the CHECKs want of an order in this state."""
    return {
        "order_id": id_of("order"),
        "customer_id": "c",
        "currency": "EUR",
        "items": '[{"sku": "A", "quantity": 1, "unit_price": 5}]',
        "total": 5,
        "payment_method": "pm",
        "status": status,
        "version": version,
        "event": event,
        "reason": "why" if status == "FAILED" else None,
    }


def payment_row(status: str, version: int, event: str) -> Row:
    """Everything that the CHECKs want of a payment in this state."""
    captured = status in ("CAPTURED", "REFUND_DUE", "REFUND_REFUSED", "REFUNDED")
    refunded = status == "REFUNDED"
    return {
        "order_id": id_of("order"),
        "customer_id": "c",
        "currency": "EUR",
        "items": "[]",
        "amount": 5,
        "payment_method": "pm",
        "status": status,
        "version": version,
        "event": event,
        "captured": 5 if captured else 0,
        "refunded": 5 if refunded else 0,
        "reason": "why" if status == "DECLINED" else None,
        "charge_reference": "ch" if captured else None,
        "refund_reference": "re" if refunded else None,
        "refund_refusal": "charge_missing" if status == "REFUND_REFUSED" else None,
    }


def row_of(table: str, status: str, version: int, event: str) -> Row:
    return (order_row if table == "orders" else payment_row)(status, version, event)


async def put(database: Connection, table: str, row: Mapping[str, Any]) -> None:
    columns = ", ".join(row)
    values = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await database.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})", *row.values())


async def put_as_it_is(database: Connection, table: str, row: Mapping[str, Any]) -> None:
    """As if it had come there lawfully."""
    await database.execute("SET session_replication_role = replica")
    await put(database, table, row)
    await database.execute("SET session_replication_role = origin")


async def is_accepted(database: Connection, table: str, row: Mapping[str, Any]) -> bool:
    """Whether the update goes through. Another refusal than that of the guard is an error of the test."""
    changes = ", ".join(f"{column} = ${number}" for number, column in enumerate(row, 1))
    transaction = database.transaction()
    await transaction.start()
    try:
        await database.execute(f"UPDATE {table} SET {changes}", *row.values())
    except asyncpg.PostgresError as error:
        if error.sqlstate != ILLEGAL_TRANSITION:
            raise
        return False
    else:
        return True
    finally:
        await transaction.rollback()


def code_says(machine: StateMachine, before: str, event: str) -> str | None:
    try:
        return machine.after(before, event)
    except IllegalTransitionError:
        return None


def pairs(machine: StateMachine) -> list[tuple[str, str]]:
    events = (*machine.events(), machine.created_by, "SomethingElse")
    return list(itertools.product(machine.states(), events))


@pytest.mark.parametrize("table", MACHINES)
async def test_code_and_database_agree_on_every_state_and_event(database: Connection, table: str) -> None:
    machine = MACHINES[table]
    for before, event in pairs(machine):
        await database.execute(f"DELETE FROM {table}")
        await put_as_it_is(database, table, row_of(table, before, 7, "x"))
        lawful = code_says(machine, before, event)
        accepted = {
            after for after in machine.states() if await is_accepted(database, table, row_of(table, after, 8, event))
        }
        assert accepted == ({lawful} if lawful else set()), (before, event)


@pytest.mark.parametrize("table", MACHINES)
async def test_a_transition_counts_one_version_on(database: Connection, table: str) -> None:
    machine = MACHINES[table]
    (before, event), after = next(iter(machine.transitions.items()))
    await put_as_it_is(database, table, row_of(table, before, 7, "x"))
    accepted = [
        version
        for version in (1, 6, 7, 8, 9)
        if await is_accepted(database, table, row_of(table, after, version, event))
    ]
    assert accepted == [8]


@pytest.mark.parametrize("table", MACHINES)
@pytest.mark.parametrize("changed", ["status", "version", "event"])
async def test_no_part_of_a_transition_can_be_changed_alone(database: Connection, table: str, changed: str) -> None:
    machine = MACHINES[table]
    (before, event), after = next(iter(machine.transitions.items()))
    await put_as_it_is(database, table, row_of(table, before, 7, machine.created_by))
    alone = {"status": after, "version": 8, "event": event}[changed]
    row = row_of(table, after if changed == "status" else before, 7, machine.created_by)
    assert not await is_accepted(database, table, {**row, changed: alone})


@pytest.mark.parametrize("table", MACHINES)
async def test_a_change_that_is_no_transition_is_not_looked_at(database: Connection, table: str) -> None:
    machine = MACHINES[table]
    for state in machine.states():
        await database.execute(f"DELETE FROM {table}")
        await put_as_it_is(database, table, row_of(table, state, 7, "x"))
        assert await is_accepted(database, table, {"payment_method": "other"})


@pytest.mark.parametrize("table", MACHINES)
async def test_a_row_begins_at_its_beginning(database: Connection, table: str) -> None:
    machine = MACHINES[table]
    for state, version in itertools.product(machine.states(), (1, 2)):
        row = row_of(table, state, version, machine.created_by)
        if (state, version) == (machine.initial, 1):
            await put(database, table, row)
            continue
        with pytest.raises(asyncpg.PostgresError) as refused:
            await put(database, table, row)
        assert refused.value.sqlstate in (ILLEGAL_TRANSITION, "23514"), (state, version)


@pytest.mark.parametrize("table", MACHINES)
async def test_a_database_with_another_machine_is_refused_in_a_sentence(database: Connection, table: str) -> None:
    machine = MACHINES[table]
    await verify_machine(database, machine)
    (before, event), after = next(iter(machine.transitions.items()))
    await database.execute(
        "DELETE FROM state_transitions WHERE machine = $1 AND before = $2 AND event = $3", table, before, event
    )
    with pytest.raises(
        SchemaBehindError, match=f"lacks {before} --{event}--> {after}. If a migration .* run `orderflow migrate`"
    ):
        await verify_machine(database, machine)
    await database.execute("INSERT INTO state_transitions VALUES ($1, 'A', 'E', 'B')", table)
    with pytest.raises(SchemaBehindError, match="also allows A --E--> B"):
        await verify_machine(database, machine)


BAD_ORDERS: list[Row] = [
    {"total": 0},
    {"total": -1},
    {"total": 2**53},
    {"currency": "eur"},
    {"items": "[]"},
    {"customer_id": ""},
    {"reason": "why"},
    {"refund": "due"},
    {"refund": "perhaps"},
    {"event": "PaymentSucceeded"},
]
BAD_PAYMENTS: list[Row] = [
    {"amount": 0},
    {"captured": 1},
    {"captured": -1},
    {"refunded": 1},
    {"refunded": -1},
    {"charge_reference": "ch"},
    {"reason": "why"},
    {"refund_refusal": "charge_missing"},
]


@pytest.mark.parametrize(
    ("table", "changes"),
    [*(("orders", each) for each in BAD_ORDERS), *(("payments", each) for each in BAD_PAYMENTS)],
)
async def test_the_database_refuses_what_can_never_be_true(database: Connection, table: str, changes: Row) -> None:
    machine = MACHINES[table]
    row = row_of(table, machine.initial, 1, machine.created_by)
    with pytest.raises(asyncpg.CheckViolationError):
        await put(database, table, {**row, **changes})
    await put(database, table, row)


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        ("CAPTURED", {"captured": 4}),
        ("CAPTURED", {"refunded": 1}),
        ("REFUND_DUE", {"refunded": 5, "refund_reference": "re"}),
        ("REFUND_REFUSED", {"refund_refusal": None}),
        ("REFUND_REFUSED", {"captured": 4}),
        ("REFUNDED", {"refunded": 6}),
        ("REFUNDED", {"refunded": 4}),
        ("DECLINED", {"captured": 5, "charge_reference": "ch"}),
    ],
)
async def test_no_more_is_refunded_than_was_captured(database: Connection, status: str, changes: Row) -> None:
    await put_as_it_is(database, "payments", row_of("payments", status, 3, "x"))
    with pytest.raises(asyncpg.CheckViolationError):
        await database.execute(
            f"UPDATE payments SET {', '.join(f'{name} = ${number}' for number, name in enumerate(changes, 1))}",
            *changes.values(),
        )
