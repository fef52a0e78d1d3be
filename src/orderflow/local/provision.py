"""Databases, their owner roles, their tables, and the topics: made where they are missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg

from orderflow.local.errors import LocalError
from orderflow.messaging.store import DataRefusedError, SchemaBehindError, StoreUnavailableError
from orderflow.messaging.stores.postgres.connections import Connection, connect, leave
from orderflow.messaging.stores.postgres.migrations import Applied, MigrationSequence, migrate
from orderflow.messaging.stores.postgres.queries import load_queries

APPLICATION = "orderflow provision"
OPEN_BY_DEFAULT = ("postgres", "template1")

Password = Callable[[str], str | None]


class MissingRightsError(LocalError):
    """We may not make a role or a database. `statements` are what somebody who may has to run."""

    def __init__(self, statements: Sequence[str]) -> None:
        super().__init__("no right to make roles or databases on this server; an administrator has to run the SQL")
        self.statements = tuple(statements)


def database_name(name: str) -> str:
    """Of a service, of the log or of the bank; its owner role has the same name."""
    return f"orderflow_{name}"


async def missing_databases(admin_url: str, names: Sequence[str], password: Password) -> list[str]:
    """The statements that make the roles and databases which are not there. Raises LocalError."""
    connection = await _connect(_maintenance(admin_url))
    try:
        return await _statements(connection, [database_name(name) for name in names], password)
    finally:
        await leave(connection)


async def make_databases(admin_url: str, names: Sequence[str], password: Password, *, exclusive: bool = False) -> int:
    """Make what is missing; returns how many statements that took. `exclusive`: nobody else uses the server.

    Raises MissingRightsError, LocalError.
    """
    connection = await _connect(_maintenance(admin_url))
    try:
        statements = await _statements(connection, [database_name(name) for name in names], password)
        if exclusive:
            statements += await _closing(connection, OPEN_BY_DEFAULT)
        for position, statement in enumerate(statements):
            try:
                await connection.execute(statement)
            except asyncpg.InsufficientPrivilegeError as error:
                raise MissingRightsError(statements[position:]) from error
            except asyncpg.PostgresError as error:
                raise LocalError(f"PostgreSQL refused to make a role or a database: {error}") from error
    finally:
        await leave(connection)
    return len(statements)


async def make_tables(plans: Mapping[str, tuple[str, Sequence[MigrationSequence]]]) -> list[Applied]:
    """Bring every database up to date: name → (URL, its sequences). Raises LocalError."""
    results = await asyncio.gather(*(_make_tables(name, url, sequences) for name, (url, sequences) in plans.items()))
    return [applied for result in results for applied in result]


async def _make_tables(name: str, url: str, sequences: Sequence[MigrationSequence]) -> list[Applied]:
    try:
        return await migrate(url, sequences)
    except (SchemaBehindError, StoreUnavailableError, DataRefusedError) as error:
        raise LocalError(f"the database of {name} could not be prepared: {error}") from error


async def _statements(connection: Connection, wanted: Sequence[str], password: Password) -> list[str]:
    queries = load_queries("orderflow.local", "provision.sql")
    roles = {row["name"] for row in await connection.fetch(queries["roles"], wanted)}
    databases = {row["name"] for row in await connection.fetch(queries["databases"], wanted)}
    superuser = await connection.fetchval(queries["is_superuser"])
    statements: list[str] = []
    for name in wanted:
        if name not in roles:
            statements.append(await connection.fetchval(queries["create_role"], name, password(name)))
            if not superuser:
                statements.append(await connection.fetchval(queries["join_role"], name))
        if name not in databases:
            statements.append(await connection.fetchval(queries["create_database"], name))
            statements.append(await connection.fetchval(queries["close_database"], name))
    return [*statements, *await _closing(connection, [name for name in wanted if name in databases])]


async def _closing(connection: Connection, names: Sequence[str]) -> list[str]:
    queries = load_queries("orderflow.local", "provision.sql")
    found = await connection.fetch(queries["databases_open_to_all"], list(names))
    return [await connection.fetchval(queries["close_database"], row["name"]) for row in found]


async def _connect(url: str) -> Connection:
    host = urlsplit(url).hostname or "its socket"
    try:
        return await connect(url, application_name=APPLICATION)
    except (StoreUnavailableError, SchemaBehindError, DataRefusedError) as error:
        raise LocalError(f"cannot connect to PostgreSQL at {host}: {error}") from error
    except asyncpg.PostgresError as error:
        raise LocalError(f"PostgreSQL at {host} refuses us: {error}") from error


def _maintenance(url: str) -> str:
    """The URL itself, to the database `postgres` when it names none."""
    parts = urlsplit(url)
    return url if parts.path.strip("/") else urlunsplit(parts._replace(path="/postgres"))


def password_of(url: str) -> str | None:
    """The password in a URL."""
    password = urlsplit(url).password
    return None if password is None else unquote(password)
