"""PostgreSQL: its programs, that it answers, its clock, its limits, and that the tables are those of this release."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from orderflow.cli.checks.verdict import FAILED, OK, SKIPPED, WARNING, Verdict
from orderflow.cli.running import database_url, running_state
from orderflow.registry import service_names
from orderflow.settings import Settings, SettingsError

if TYPE_CHECKING:
    from orderflow.messaging.stores.postgres.connections import Connection

VERSION_WANTED = 15
SKEW_MS_MAX = 2000
LOCKS_AN_EVENT = 40
LOCKS_AN_EVENT_AT_LEAST = 10
CONNECTIONS_WANTED = 100
SERVER = "postgresql"


def binaries(settings: Settings) -> Verdict:
    """The programs of the embedded server."""
    from orderflow.local.cluster import find_binaries
    from orderflow.local.errors import LocalError

    if not settings.embedded:
        return Verdict("embedded postgresql", SKIPPED, "a server that exists is used")
    try:
        return Verdict("embedded postgresql", OK, f"its programs are in {find_binaries().folder}")
    except LocalError as error:
        return Verdict("embedded postgresql", FAILED, str(error), "Install the dependencies with: ./run_all.sh")


def databases(given: Settings, running: Settings) -> Iterator[Verdict]:
    """Every database of this system. `running` are the settings with the addresses of what runs here."""
    if running.embedded:
        at_fault = running_state(given) is not None
        yield Verdict(
            SERVER,
            FAILED if at_fault else SKIPPED,
            "the embedded server does not run",
            "See its log with: orderflow logs postgres" if at_fault else "Start it with: orderflow up",
        )
        return
    yield from asyncio.run(_all(running, external=not given.embedded))


async def _all(settings: Settings, *, external: bool) -> list[Verdict]:
    found: list[Verdict] = []
    seen_servers: set[tuple[object, ...]] = set()
    for name in (*service_names(), "log", "bank"):
        found.extend([verdict async for verdict in _one(settings, name, seen_servers, external)])
    return found


async def _one(
    settings: Settings, name: str, seen: set[tuple[object, ...]], external: bool
) -> AsyncIterator[Verdict]:
    import asyncpg

    from orderflow.messaging.store import DataRefusedError, SchemaBehindError, StoreUnavailableError
    from orderflow.messaging.stores.postgres.connections import connect, leave

    if name == "log" and settings.transport == "kafka":
        return
    check = f"database of {name}"
    try:
        connection = await connect(database_url(settings, name), application_name="orderflow doctor", writable=False)
    except (
        StoreUnavailableError,
        SchemaBehindError,
        DataRefusedError,
        SettingsError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
    ) as error:
        setting = f"ORDERFLOW_{name.upper()}_DATABASE_URL or ORDERFLOW_DATABASE_URL"
        yield Verdict(check, FAILED, f"cannot be reached: {error}", f"Is the server up, and {setting} right?")
        return
    try:
        facts = await _facts(connection)
        if (server := (facts["address"], facts["port"], facts["started"])) not in seen:
            seen.add(server)
            for verdict in server_verdicts(facts, settings.batch_max, external=external):
                yield verdict
        yield await _schema(connection, check, name)
    except asyncpg.PostgresError as error:
        yield Verdict(check, FAILED, f"cannot be asked: {error}", "Has its role the rights of an owner?")
    finally:
        await leave(connection)


async def _facts(connection: Connection) -> dict[str, object]:
    """What the server says of itself. `skew_ms`: its clock less ours, at the middle of the question."""
    from orderflow.messaging.stores.postgres.queries import load_queries

    query = load_queries("orderflow.cli.checks")["server"]
    await connection.fetchrow(query)
    asked_ms = time.time() * 1000
    row = await connection.fetchrow(query)
    assert row is not None
    facts = dict(row)
    return {**facts, "skew_ms": facts["now_ms"] - (asked_ms + time.time() * 1000) / 2}


def server_verdicts(facts: dict[str, object], batch_max: int, *, external: bool) -> Iterator[Verdict]:
    """Version and clock; for a server of somebody else its limits too (ours has what it needs)."""
    version, skew_ms = int(str(facts["version"])) // 10_000, float(str(facts["skew_ms"]))
    if version < VERSION_WANTED:
        yield Verdict(
            SERVER, WARNING, f"version {version}", f"Not tested before {VERSION_WANTED}; 18 is what we bring"
        )
    else:
        yield Verdict(SERVER, OK, f"version {version} answers")
    if facts.get("read_only"):
        advice = (
            "Orders wait. Is it a standby, or one after a failover? Name all hosts in the URL: HOST:PORT,HOST:PORT"
        )
        yield Verdict(SERVER, FAILED, "it is read-only", advice)
    if abs(skew_ms) > SKEW_MS_MAX:
        advice = (
            "Set both clocks by NTP: orders' ids are made from this machine's time, events' times from that one's"
        )
        yield Verdict("clock", WARNING, f"the database's is {skew_ms / 1000:+.1f} s off ours", advice)
    else:
        yield Verdict("clock", OK, f"the database's is {skew_ms:+.0f} ms off ours")
    if external:
        connections = int(str(facts["max_connections"]))
        locks = int(str(facts["max_locks_per_transaction"])) * (connections + int(str(facts["prepared"])))
        yield _locks(locks, int(str(facts["max_locks_per_transaction"])), batch_max)
        yield _connections(connections)


def _locks(places: int, setting: int, batch_max: int) -> Verdict:
    found = f"room for {places} (max_locks_per_transaction {setting})"
    advice = "Set max_locks_per_transaction = 256 and restart it: a batch locks every order and SKU that it touches"
    if places < batch_max * LOCKS_AN_EVENT_AT_LEAST:
        return Verdict("postgresql locks", FAILED, found, advice)
    if places < batch_max * LOCKS_AN_EVENT:
        return Verdict("postgresql locks", WARNING, found, advice)
    return Verdict("postgresql locks", OK, found)


def _connections(found: int) -> Verdict:
    if found < CONNECTIONS_WANTED:
        advice = f"Set max_connections = {CONNECTIONS_WANTED} or more: each process of a service takes up to 20"
        return Verdict("postgresql connections", WARNING, f"max_connections {found}", advice)
    return Verdict("postgresql connections", OK, f"max_connections {found}")


async def _schema(connection: Connection, check: str, name: str) -> Verdict:
    from orderflow.local.services import sequences_of
    from orderflow.messaging.store import SchemaBehindError, StoreUnavailableError
    from orderflow.messaging.stores.postgres.migrations import verify

    try:
        await verify(connection, sequences_of(name))
    except SchemaBehindError as error:
        said = str(error)
        return Verdict(
            check, FAILED, said, "" if "restore" in said else "Bring it up to date with: orderflow migrate"
        )
    except StoreUnavailableError as error:
        return Verdict(check, FAILED, f"cannot be asked: {error}", "Is the server up?")
    return Verdict(check, OK, "reachable, its tables are those of this release")
