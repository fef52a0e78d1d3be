"""Migrations over a real PostgreSQL."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from orderflow.core.postgres import schema
from orderflow.core.postgres.schema import MigrationSequence
from orderflow.core.postgres.sessions import Connection
from orderflow.core.store import DataRefusedError, SchemaBehindError


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


def sequence(folder: Path, name: str = "shop", **files: str) -> MigrationSequence:
    folder.mkdir(exist_ok=True)
    for file, text in files.items():
        (folder / f"{file}.sql").write_text(text)
    return MigrationSequence.from_folder(name, folder)


async def tables(connection: Connection) -> set[str]:
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {row[0] for row in rows} - {"schema_migrations"}


async def test_migrations_are_applied_once_in_order(connection: Connection, tmp_path: Path) -> None:
    first = sequence(tmp_path, "shop", **{"0001_a": "CREATE TABLE a (n int)"})
    assert [done.name for done in await schema.apply(connection, [first])] == ["a"]
    both = sequence(tmp_path, "shop", **{"0002_b": "ALTER TABLE a RENAME TO b; CREATE TABLE c (n int);"})
    assert [(done.number, done.name) for done in await schema.apply(connection, [both])] == [(2, "b")]
    assert await schema.apply(connection, [both]) == []
    assert await tables(connection) == {"b", "c"}


async def test_sequences_number_their_own_files(connection: Connection, tmp_path: Path) -> None:
    one = sequence(tmp_path / "one", "one", **{"0001_a": "CREATE TABLE a (n int)"})
    two = sequence(tmp_path / "two", "two", **{"0001_a": "ALTER TABLE a ADD m int"})
    done = await schema.apply(connection, [one, two])
    assert [(each.sequence, each.number) for each in done] == [("one", 1), ("two", 1)]


async def test_one_that_fails_leaves_nothing_and_keeps_those_before_it(
    connection: Connection, tmp_path: Path
) -> None:
    bad = "CREATE TABLE b (n int); INSERT INTO b VALUES (1 / 0);"
    both = sequence(tmp_path, **{"0001_a": "CREATE TABLE a (n int)", "0002_b": bad})
    with pytest.raises(DataRefusedError):
        await schema.apply(connection, [both])
    assert await tables(connection) == {"a"}
    assert [m.name for _, m in await schema.pending(connection, [both])] == ["b"]


async def test_several_processes_may_migrate_at_once(database_url: str, tmp_path: Path) -> None:
    many = sequence(tmp_path, **{f"{n:04}_t": f"CREATE TABLE t{n} (n int)" for n in range(1, 6)})
    results = await asyncio.gather(*(schema.migrate(database_url, [many]) for _ in range(4)))
    assert sorted(done.number for result in results for done in result) == [1, 2, 3, 4, 5]


async def test_a_schema_that_is_behind_is_refused_with_what_to_run(database_url: str, tmp_path: Path) -> None:
    one = sequence(tmp_path, **{"0001_a": "SELECT 1"})
    with pytest.raises(SchemaBehindError, match="shop 0001 a: run `orderflow migrate`"):
        await schema.check(database_url, [one])
    await schema.migrate(database_url, [one])
    await schema.check(database_url, [one])


async def test_a_schema_that_is_ahead_is_fine(database_url: str, tmp_path: Path) -> None:
    ahead = sequence(tmp_path / "new", **{"0001_a": "SELECT 1", "0002_b": "SELECT 2"})
    await schema.migrate(database_url, [ahead])
    old = sequence(tmp_path / "old", **{"0001_a": "SELECT 1"})
    await schema.check(database_url, [old])


async def test_a_migration_edited_after_it_was_applied_is_refused(database_url: str, tmp_path: Path) -> None:
    await schema.migrate(database_url, [sequence(tmp_path, **{"0001_a": "SELECT 1"})])
    edited = sequence(tmp_path, **{"0001_a": "SELECT 2"})
    with pytest.raises(SchemaBehindError, match="shop 0001 a was edited"):
        await schema.check(database_url, [edited])
    with pytest.raises(SchemaBehindError, match="edited"):
        await schema.migrate(database_url, [edited])


async def test_line_ends_do_not_make_an_edit(database_url: str, tmp_path: Path) -> None:
    await schema.migrate(database_url, [sequence(tmp_path, **{"0001_a": "SELECT 1;\nSELECT 2;\n"})])
    (tmp_path / "0001_a.sql").write_bytes(b"SELECT 1;\r\nSELECT 2;\r\n")
    await schema.check(database_url, [MigrationSequence.from_folder("shop", tmp_path)])


@pytest.mark.parametrize("name", ["1_a", "0001-a", "0001_A", "0002_a", "0000_a"])
def test_a_file_with_a_wrong_name_or_number_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="shop"):
        sequence(tmp_path, **{name: "SELECT 1"})


def test_two_files_of_one_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="doubles"):
        sequence(tmp_path, **{"0001_a": "SELECT 1", "0001_b": "SELECT 1"})


async def test_sql_that_postgresql_does_not_understand_is_told_with_its_file_and_line(
    database_url: str, tmp_path: Path
) -> None:
    wrong = sequence(tmp_path, **{"0001_a": "CREATE TABLE a ();\nCREATE TABEL b ();"})
    with pytest.raises(
        ValueError, match=r'migration 0001_a.sql of shop fails, line 2: syntax error at or near "TABEL"'
    ):
        await schema.migrate(database_url, [wrong])
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a ();\nCREATE TABLE b ();", encoding="utf-8")
    await schema.migrate(database_url, [MigrationSequence.from_folder("shop", tmp_path)])


def test_a_service_without_a_folder_of_migrations_is_told_what_to_make(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"shop: there is no folder .*/sql; make it, and list its files as package data"
    ):
        MigrationSequence.from_folder("shop", tmp_path / "sql")


async def test_a_database_that_does_not_exist_is_a_schema_that_is_behind(database_url: str) -> None:
    with pytest.raises(SchemaBehindError, match="orderflow migrate"):
        await schema.check(f"{database_url}_not", [schema.core()])


async def test_every_table_and_named_rule_of_the_core_says_what_it_is_for(connection: Connection) -> None:
    await schema.apply(connection, [schema.core()])
    nameless = await connection.fetch(
        """SELECT conrelid::regclass::text || '.' || conname FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND obj_description(oid) IS NULL"""
    )
    partition_or_record = re.compile(r"^(outbox_\d|schema_migrations)\.")
    assert [row[0] for row in nameless if not partition_or_record.match(row[0])] == []
