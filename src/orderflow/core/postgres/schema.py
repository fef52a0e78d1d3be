"""Schema changes: numbered, forward only, each in a transaction of its own.

And what else a database has to agree with: the state machines that code decides by, and whose installation it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from orderflow.core.crash_points import Point, reached
from orderflow.core.postgres import functions
from orderflow.core.postgres.functions import Functions
from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.sessions import Connection, connect, leave, translated
from orderflow.core.postgres.tables import Facts, Table, tables_of
from orderflow.core.service import Service, StateMachine
from orderflow.core.store import SchemaBehindError

_FILE = re.compile(r"^(\d{4})_([a-z][a-z0-9_]*)\.sql$")
CORE = "core"
PACKAGE = "orderflow.core.postgres"
WHAT_TO_RUN = "run `orderflow migrate`"
APPLY_TIMEOUT_MS = 0


@dataclass(frozen=True, slots=True)
class Migration:
    """One file `NNNN_name.sql`. `checksum` is the SHA-256 of its text, line ends made equal."""

    number: int
    name: str
    statements: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration that `apply` has applied just now."""

    sequence: str
    number: int
    name: str


@dataclass(frozen=True, slots=True)
class MigrationSequence:
    """The migrations of one owner of tables, numbered 1, 2, 3 without gaps. `tables` are its mappings for a store."""

    name: str
    migrations: tuple[Migration, ...]
    tables: tuple[Table | Facts, ...] = ()

    @classmethod
    def from_package(cls, name: str, package: str, tables: Sequence[Table | Facts] = ()) -> MigrationSequence:
        """Read `sql/migrations/` of a package. Raises ValueError for names or numbers that are not right."""
        return cls.from_folder(name, files(package).joinpath("sql", "migrations"), tables)

    @classmethod
    def from_folder(cls, name: str, folder: Traversable, tables: Sequence[Table | Facts] = ()) -> MigrationSequence:
        """Read a folder (a `pathlib.Path` is one). Raises ValueError: no folder, or a wrong name or number."""
        if not folder.is_dir():
            raise ValueError(f"{name}: there is no folder {folder}; make it, and list its files as package data")
        found: list[Migration] = []
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if not file.name.endswith(".sql"):
                continue
            match = _FILE.match(file.name)
            if match is None:
                raise ValueError(f"{name}: {file.name!r} is not named like 0001_what_it_does.sql")
            statements = file.read_text("utf-8")
            checksum = hashlib.sha256("\n".join(statements.splitlines()).encode()).hexdigest()
            found.append(Migration(int(match[1]), match[2], statements, checksum))
        if [migration.number for migration in found] != list(range(1, len(found) + 1)):
            raise ValueError(f"{name}: migrations are not numbered 1, 2, 3 without gaps or doubles")
        return cls(name, tuple(found), tuple(tables))


def core() -> MigrationSequence:
    """The tables that the core keeps in every service's database."""
    return MigrationSequence.from_package(CORE, PACKAGE)


def schema_of(service: Service) -> list[MigrationSequence]:
    """All that makes the tables in a service's database: the core's, then its own."""
    tables = tables_of(service.tables)
    own = [MigrationSequence.from_package(service.name, service.sql, tables)] if service.sql else []
    return [core(), *own]


async def apply(connection: Connection, sequences: Sequence[MigrationSequence]) -> list[Applied]:
    """Apply what is pending, in the order of `sequences`; several processes may do so at once.

    Each migration commits with its record or not at all. Raises SchemaBehindError for one that was edited
    after it was applied, StoreUnavailableError, DataRefusedError (data that a new rule forbids), ValueError (SQL that
    PostgreSQL does not understand).
    """
    queries = load_queries(PACKAGE, "migrations.sql")
    done: list[Applied] = []
    with translated(connection):
        async with connection.transaction():
            await connection.execute(queries["lock"])
            await connection.execute(queries["create_record"])
        while True:
            async with connection.transaction():
                await connection.execute(queries["lock"])
                waiting = await pending(connection, sequences)
                if not waiting:
                    if unit := unit_of_work(sequences):
                        await functions.install(connection, unit)
                    return done
                sequence, migration = waiting[0]
                await _run(connection, sequence, migration)
                await connection.execute(
                    queries["record"], sequence.name, migration.number, migration.name, migration.checksum
                )
            done.append(Applied(sequence.name, migration.number, migration.name))
            reached(Point.MIGRATION_APPLIED)


async def _run(connection: Connection, sequence: MigrationSequence, migration: Migration) -> None:
    try:
        await connection.execute(migration.statements)
    except asyncpg.InsufficientPrivilegeError:
        raise
    except asyncpg.SyntaxOrAccessError as error:
        file = f"{migration.number:04}_{migration.name}.sql"
        before = migration.statements[: int(error.position or 1) - 1]
        where = f", line {before.count(chr(10)) + 1}" if error.position else ""
        raise ValueError(
            f"the migration {file} of {sequence.name} fails{where}: {error}. Nothing of it was kept; mend the file"
        ) from error


def unit_of_work(sequences: Sequence[MigrationSequence]) -> Functions | None:
    """The functions that a service with these tables calls; None where the core's tables are not among them."""
    if not any(sequence.name == CORE for sequence in sequences):
        return None
    return Functions([table for sequence in sequences for table in sequence.tables])


async def pending(
    connection: Connection, sequences: Sequence[MigrationSequence]
) -> list[tuple[MigrationSequence, Migration]]:
    """What `apply` would apply. Raises SchemaBehindError for a migration edited after it was applied."""
    queries = load_queries(PACKAGE, "migrations.sql")
    with translated(connection):
        rows: Sequence[asyncpg.Record] = []
        if await connection.fetchval(queries["record_exists"]):
            rows = await connection.fetch(queries["applied"])
    applied = {(row["sequence_name"], row["number"]): row for row in rows}
    waiting: list[tuple[MigrationSequence, Migration]] = []
    for sequence in sequences:
        for migration in sequence.migrations:
            row = applied.get((sequence.name, migration.number))
            if row is None:
                waiting.append((sequence, migration))
            elif row["checksum"] != migration.checksum:
                raise SchemaBehindError(
                    f"{sequence.name} {migration.number:04} {migration.name} was edited after it was applied "
                    f"(as {row['name']}): restore that file and put the change into a new migration"
                )
    return waiting


async def verify(connection: Connection, sequences: Sequence[MigrationSequence]) -> None:
    """Return if nothing is pending. A database that is ahead is fine: old code runs on it during a rollout.

    Raises SchemaBehindError that says what is missing and what to run.
    """
    waiting = await pending(connection, sequences)
    if waiting:
        names = ", ".join(f"{s.name} {m.number:04} {m.name}" for s, m in waiting)
        raise SchemaBehindError(f"the schema lacks {names}: {WHAT_TO_RUN}")
    unit = unit_of_work(sequences)
    if unit is not None:
        with translated(connection):
            if not await functions.is_installed(connection, unit):
                raise SchemaBehindError(f"the schema lacks this release's function {unit.names[0]}: {WHAT_TO_RUN}")


async def migrate(url: str, sequences: Sequence[MigrationSequence]) -> list[Applied]:
    """`apply` over a connection of its own, without a statement timeout."""
    connection = await connect(url, application_name="orderflow migrate", statement_timeout_ms=APPLY_TIMEOUT_MS)
    try:
        return await apply(connection, sequences)
    finally:
        await leave(connection)


async def check(url: str, sequences: Sequence[MigrationSequence]) -> None:
    """`verify` over a connection of its own."""
    connection = await connect(url, application_name="orderflow check")
    try:
        await verify(connection, sequences)
    finally:
        await leave(connection)


class Asks(Protocol):
    """Whatever can run a query: a connection, or a service's `Database`."""

    async def fetch(self, query: str, *arguments: object) -> Sequence[Any]: ...


async def verify_machine(database: Asks, machine: StateMachine) -> None:
    """Return if the database enforces exactly `machine`. Raises SchemaBehindError that names what differs."""
    rows = await database.fetch(load_queries(PACKAGE, "machines.sql")["transitions"], machine.name)
    stored = {(machine.name, row["before"], row["event"], row["after"]) for row in rows}
    expected = set(machine.rows())
    if stored == expected:
        return
    lacking = _sentence("lacks", expected - stored)
    extra = _sentence("also allows", stored - expected)
    told = "; ".join(part for part in (lacking, extra) if part)
    raise SchemaBehindError(
        f"the state machine {machine.name!r} of the database {told}. If a migration of this release changes "
        f"`state_transitions` accordingly, {WHAT_TO_RUN}; if none does, add one"
    )


def _sentence(verb: str, transitions: set[tuple[str, str, str, str]]) -> str:
    shown = [f"{before} --{event}--> {after}" for _, before, event, after in sorted(transitions)]
    return f"{verb} {', '.join(shown)}" if shown else ""


Fetch = Callable[..., Awaitable[Sequence[Any]]]


async def installation_of(fetch: Fetch) -> UUID | None:
    """None until one has claimed the database. `fetch` runs a statement in the database."""
    rows = await fetch(load_queries(PACKAGE, "installation.sql")["installation"])
    return UUID(str(rows[0]["id"])) if rows else None


async def claim_installation(fetch: Fetch, proposed: UUID) -> UUID:
    """Claim the database, unless it is claimed; returns whose it is. The first of processes side by side gets it."""
    await fetch(load_queries(PACKAGE, "installation.sql")["keep_installation"], proposed)
    owner = await installation_of(fetch)
    assert owner is not None
    return owner
