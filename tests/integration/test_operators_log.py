"""The operators' log on a real PostgreSQL: what is there before the chain, beside it, and behind its back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from orderflow.core.operations.hash_chain import ChainCheck
from orderflow.core.postgres import schema
from orderflow.core.postgres.schema import MigrationSequence
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.store import Act, LogEntry
from tests.support.callers import person, settings_of
from tests.support.postgres import PostgresServer
from tests.support.saga import databases, running
from tests.support.waiting import eventually
from tests.unit.cli.calls import call

OLD_INSERT = "INSERT INTO operator_actions (who, action, target, reason, result) VALUES ($1, 'look', 'it', '', $2)"
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
BEFORE_THE_CHAIN = 9
ADA = Act(caller=person("ada"), reason="a reason")


async def log_of(url: str) -> ChainCheck:
    store = await PostgresStore.connect(url, tables=())
    try:
        check = ChainCheck()
        check.read(await store.recovery.actions(10_000))
        check.end()
        return check
    finally:
        await store.close()


async def test_the_chain_begins_with_the_rows_that_are_there_and_takes_in_those_of_an_earlier_release(
    database_url: str,
) -> None:
    whole = schema.core()
    await schema.migrate(database_url, [MigrationSequence(whole.name, whole.migrations[:BEFORE_THE_CHAIN])])
    old = await asyncpg.connect(database_url)
    try:
        for number in range(4):
            await old.execute(OLD_INSERT, "bob", f"before {number} \u2603")
        await old.execute("DELETE FROM operator_actions WHERE number = 2")
        await schema.migrate(database_url, [whole])
        # The process of the earlier release goes on, and knows of no hash.
        await old.execute(OLD_INSERT, "bob", "beside")
        store = await PostgresStore.connect(database_url, tables=())
        await store.recovery.log(LogEntry(ADA, "look", "it", "with"))
        await store.close()
        await old.execute(OLD_INSERT, "bob", "after")
    finally:
        await old.close()

    check = await log_of(database_url)
    assert check.first is None
    assert sorted(check.hashes) == [1, 3, 4, 5, 6, 7]


async def test_whoever_writes_behind_its_back_is_found(database_url: str) -> None:
    await schema.migrate(database_url, [schema.core()])
    eve = await asyncpg.connect(database_url)
    try:
        for number in range(6):
            await eve.execute(OLD_INSERT, "bob", f"{number}")
        head = (await log_of(database_url)).head
        await eve.execute("UPDATE operator_actions SET who = 'eve' WHERE number = 5")
        changed = (await log_of(database_url)).first
        assert changed is not None
        assert changed.number == 5
        await eve.execute("DELETE FROM operator_actions WHERE number = 3")
        missing = (await log_of(database_url)).first
        assert missing is not None
        assert (missing.number, missing.behind) == (4, 2)
        await eve.execute("DELETE FROM operator_actions WHERE number > 2")
        cut = await log_of(database_url)
        assert cut.first is None
        assert head[1] not in cut.hashes.values()
    finally:
        await eve.close()


async def test_a_transaction_that_is_taken_back_leaves_no_gap(database_url: str) -> None:
    await schema.migrate(database_url, [schema.core()])
    one, other = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    try:
        taken_back = one.transaction()
        await taken_back.start()
        await one.execute(OLD_INSERT, "ada", "never")
        waits = asyncio.create_task(other.execute(OLD_INSERT, "bob", "second"))
        await eventually(lambda: one.fetchval(WAITING))
        await taken_back.rollback()
        await waits
        rows = await one.fetch("SELECT number, who FROM operator_actions")
    finally:
        await one.close()
        await other.close()
    assert [tuple(row) for row in rows] == [(1, "bob")]


async def test_the_command_line_proves_a_running_service_and_finds_what_was_changed(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    with databases(postgres, "inventory") as made:
        await made.migrate()
        async with running("inventory", made, tmp_path, demo_catalogue=False) as service:
            for on_hand in (5, 3):
                done = await service.put(
                    "/stock/SKU-A",
                    json={"on_hand": on_hand, "reason": "counted"},
                    headers={"x-orderflow-operator": "ada"},
                )
                assert done.is_success
            given = settings_of(inventory=service)
            verify = ("ops", "verify", "--service", "inventory")
            proven = await asyncio.to_thread(call, tmp_path, *verify, **given)
            assert proven.exit_code == 0, proven.stderr
            head = proven.stdout.split()[-1]
            told = await asyncio.to_thread(call, tmp_path, "ops", "log", "--service", "inventory", **given)
            assert "set stock stock/SKU-A" in told.stdout
            assert "because: counted" in told.stdout
            name = urlsplit(made.urls["inventory"]).path.removeprefix("/")
            postgres.execute("UPDATE operator_actions SET reason = 'lost' WHERE number = 1", name)
            changed = await asyncio.to_thread(call, tmp_path, *verify, **given)
            assert changed.exit_code == 1
            assert "row 1 does not fit" in changed.stderr
            postgres.execute("DELETE FROM operator_actions", name)
            emptied = await asyncio.to_thread(call, tmp_path, *verify, "--expect", head, **given)
            assert emptied.exit_code == 1
            assert "rows 1 to 2 are missing at the end" in emptied.stderr
