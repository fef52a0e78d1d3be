"""What has to be there before a service can start: databases, roles, tables, one identity, topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg

from orderflow.core.dead_letters import FLOW_STATUS
from orderflow.core.postgres import schema
from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.schema import Applied, Fetch, MigrationSequence, claim_installation, installation_of
from orderflow.core.postgres.sessions import Connection, connect, leave, translated
from orderflow.core.store import DataRefusedError, SchemaBehindError, StoreUnavailableError
from orderflow.core.transport import Claim, TopicMissingError, TopicSettings, TransportUnavailableError
from orderflow.local import services
from orderflow.local.errors import LocalError
from orderflow.local.home import Home, database_name
from orderflow.local.postgres import EmbeddedPostgres
from orderflow.local.services import definitions
from orderflow.local.state import attached, with_embedded
from orderflow.registry import service_names
from orderflow.runtime.wiring import claim_topics, connect_transport, topic_settings
from orderflow.settings import Settings

OPEN_BY_DEFAULT = ("postgres", "template1")
Password = Callable[[str], str | None]
APPLICATION = "orderflow installation"
PATIENCE_S = 15.0
ASK_AGAIN_AFTER_S = 0.2
T = TypeVar("T")


class Preparation:
    """Databases, tables and topics, as the services need them; and the question whether they may be left alone."""

    async def databases(self, settings: Settings, server: EmbeddedPostgres | None) -> UUID:
        """Returns whose they are: the installation. Raises LocalError."""
        await make_databases(settings, server)
        await make_tables(services.plans(settings))
        return await agree_on_installation(settings)

    async def topics(self, settings: Settings, installation: UUID, *, take_over: bool) -> None:
        """Raises LocalError, SettingsError: they are another installation's, and are not taken over."""
        await make_topics(settings, installation, take_over=take_over)

    async def under_way(self, settings: Settings) -> list[str]:
        """What is not finished on the transport of these settings, in words. Raises LocalError."""
        return await under_way(settings)


async def make_databases(settings: Settings, server: EmbeddedPostgres | None) -> int:
    """Roles and databases on the embedded server, or on the one of `database_url`; returns how many statements.

    A database with a URL of its own is left to whoever gave it. Raises MissingRightsError, LocalError.
    """
    if server is not None:
        return await make_roles_and_databases(server.url(), services.databases(), server.password, exclusive=True)
    url = settings.server_url()
    if url is None:
        return 0
    return await make_roles_and_databases(url, services.on_common_server(settings), _owner_password(settings))


class MissingRightsError(LocalError):
    """We may not make a role or a database. `statements` are what somebody who may has to run."""

    def __init__(self, statements: Sequence[str]) -> None:
        super().__init__("not allowed to create roles or databases on this server; have an administrator run the SQL")
        self.statements = tuple(statements)


async def missing_roles_and_databases(admin_url: str, names: Sequence[str], password: Password) -> list[str]:
    """The statements that make the roles and databases which are not there. Raises LocalError."""
    connection = await _connect(_maintenance(admin_url))
    try:
        return await _statements(connection, [database_name(name) for name in names], password)
    finally:
        await leave(connection)


async def make_roles_and_databases(
    admin_url: str, names: Sequence[str], password: Password, *, exclusive: bool = False
) -> int:
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
                raise LocalError(f"PostgreSQL refused to create a role or a database: {error}") from error
    finally:
        await leave(connection)
    return len(statements)


async def make_tables(plans: Mapping[str, tuple[str, Sequence[MigrationSequence]]]) -> list[Applied]:
    """Bring every database up to date: name → (URL, its sequences). Raises LocalError."""
    results = await asyncio.gather(*(_make_tables(name, url, sequences) for name, (url, sequences) in plans.items()))
    return [applied for result in results for applied in result]


async def _make_tables(name: str, url: str, sequences: Sequence[MigrationSequence]) -> list[Applied]:
    try:
        return await schema.migrate(url, sequences)
    except (SchemaBehindError, StoreUnavailableError, DataRefusedError, ValueError) as error:
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
    except ValueError as error:
        raise LocalError(f"the database URL cannot be used: {error}") from error
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


async def agree_on_installation(settings: Settings) -> UUID:
    """The identity in the services' databases, which all have it afterwards. Their tables must be there.

    Of several that do this side by side, all get the same. Raises LocalError, also when the databases are of
    different installations.
    """
    databases: list[Fetch] = []
    try:
        async with AsyncExitStack() as stack:
            for name in service_names():
                connection = await connect(settings.service_database_url(name), application_name=APPLICATION)
                stack.push_async_callback(connection.close)
                databases.append(connection.fetch)
            return await _agree(databases)
    except (StoreUnavailableError, SchemaBehindError, DataRefusedError, ValueError, asyncpg.PostgresError) as error:
        raise LocalError(f"cannot tell whose databases these are: {error}") from error


async def _agree(databases: list[Fetch]) -> UUID:
    found = [await installation_of(fetch) for fetch in databases]
    proposed = next((each for each in found if each is not None), None) or uuid4()
    owners = [proposed := await claim_installation(fetch, proposed) for fetch in databases]
    if len(set(owners)) > 1:
        each = ", ".join(
            f"{name} of {installation}" for name, installation in zip(service_names(), owners, strict=True)
        )
        raise LocalError(f"the databases belong to different installations: {each}; check the database settings")
    return proposed


def all_topics(settings: Settings) -> list[TopicSettings]:
    """Every topic that a service writes or reads, and for each that is read the one of its dead letters."""
    services = definitions().values()
    published = {topic for service in services for topic in service.publishes}
    consumed = {topic for service in services for topic in service.reads}
    return topic_settings([*published, FLOW_STATUS], consumed, settings)


async def make_topics(settings: Settings, installation: UUID, *, take_over: bool = False) -> None:
    """Claim the topics and groups for this installation, and make the topics that are missing.

    `take_over`: also those that are another's. Raises LocalError, SettingsError: they are another's.
    """
    groups = [each.consumer for known in definitions().values() for each in known.subscriptions]
    wanted = all_topics(settings)
    claim = Claim(installation, [topic.name for topic in wanted], groups, takes_over=take_over)
    where = "the log" if settings.transport == "postgres" else f"Kafka at {settings.kafka_bootstrap}"

    async def make() -> None:
        transport = await connect_transport(settings)
        try:
            await claim_topics(transport, claim, settings)
            await transport.create_topics(wanted)
        finally:
            await transport.close()

    try:
        await patiently(make)
    except (TransportUnavailableError, SchemaBehindError) as error:
        raise LocalError(f"{where} does not answer: {error}") from error


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` returns, asked again for a while: a broker that has just started answers "not yet"."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await ask()
        except (StoreUnavailableError, TransportUnavailableError):
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(ASK_AGAIN_AFTER_S)


async def under_way(settings: Settings) -> list[str]:
    """What is not finished yet on the transport of these settings, in words. Raises LocalError."""

    async def look() -> list[str]:
        return [await _unsent(settings), await _unfinished(settings), await _unread(settings)]

    try:
        found = await patiently(look)
    except (
        StoreUnavailableError,
        TransportUnavailableError,
        SchemaBehindError,
        ValueError,
        asyncpg.PostgresError,
    ) as error:
        raise LocalError(f"cannot tell what is under way: {error}") from error
    return [words for words in found if words]


async def _unsent(settings: Settings) -> str:
    count = 0
    for name in service_names():
        count += await _count(settings, name, "unsent")
    return f"{count} unsent events" if count else ""


async def _unfinished(settings: Settings) -> str:
    count = await _count(settings, "order", "unfinished_orders")
    return f"{count} unfinished orders" if count else ""


async def _unread(settings: Settings) -> str:
    transport = await connect_transport(settings)
    count = 0
    try:
        for definition in definitions().values():
            for subscription in definition.subscriptions:
                lags = await transport.lag(subscription.consumer, subscription.topics)
                count += sum(partition.lag for partition in lags)
    except TopicMissingError:
        # Topics come before services: without them nothing was ever published.
        return ""
    finally:
        await transport.close()
    return f"{count} events not consumed" if count else ""


async def _count(settings: Settings, name: str, query: str) -> int:
    connection = await connect(settings.service_database_url(name), application_name="orderflow up", writable=False)
    try:
        with translated(connection):
            found: int = await connection.fetchval(load_queries("orderflow.local", "under_way.sql")[query])
    finally:
        await leave(connection)
    return found


async def migrate(settings: Settings, *, topics: bool = False, take_over_topics: bool = False) -> Sequence[Applied]:
    """Make what is missing, and claim the databases.

    `topics`: claim topics and groups for this installation too, and make those that are missing;
    `take_over_topics`: the same, whosesoever they were. Raises MissingRightsError, LocalError, SettingsError.
    """
    async with _reachable(settings) as (reached, server):
        await make_databases(reached, server)
        applied = await make_tables(services.plans(reached))
        installation = await agree_on_installation(reached)
        home = Home(settings.home)
        if home.exists():
            home.remember_installation(installation)
        if topics or take_over_topics:
            await make_topics(reached, installation, take_over=take_over_topics)
        return applied


async def missing_databases(settings: Settings) -> Sequence[str]:
    """The statements for roles and databases that an administrator would have to run. Raises LocalError."""
    url = settings.server_url()
    if url is None:
        return []
    return await missing_roles_and_databases(url, services.on_common_server(settings), _owner_password(settings))


def _owner_password(settings: Settings) -> Password:
    """Of the owner of `orderflow_<name>`: as the service will show it."""
    prefix = database_name("")
    return lambda role: password_of(settings.service_database_url(role.removeprefix(prefix)))


@asynccontextmanager
async def _reachable(settings: Settings) -> AsyncIterator[tuple[Settings, EmbeddedPostgres | None]]:
    """The settings with the embedded server's databases: of the run on this home, or started for now."""
    joined = attached(settings)
    if not joined.embedded:
        yield joined, None
        return
    home = Home.open(settings.home)
    with home.lock():
        server = EmbeddedPostgres(home.path, port=settings.postgres_port)
        try:
            server.start()
            yield with_embedded(settings, server.service_url), server
        finally:
            await asyncio.to_thread(server.stop)
