"""Every kind of session with PostgreSQL, whoever uses it, against everything that may happen to one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from orderflow.audit.collect import audited, opened
from orderflow.bank import BankFailedError, BankUnavailableError
from orderflow.bank.postgres import PostgresBook, bank_migrations
from orderflow.core.postgres import schema
from orderflow.core.postgres import sessions as postgres_sessions
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres_log import PostgresLogTransport, log_migrations
from orderflow.core.store import StoreUnavailableError
from orderflow.core.transport import TopicSettings, TransportUnavailableError
from orderflow.runtime.process import run_service
from orderflow.services.inventory.service import SERVICE as INVENTORY
from orderflow.settings import Settings
from tests.conformance.store_values import changes, commit, outgoing
from tests.integration.test_payment_bank_book import charge
from tests.support.pgbouncer import missing, pgbouncer
from tests.support.postgres import PostgresServer
from tests.support.proxy import proxy
from tests.support.records import numbered, take
from tests.support.waiting import eventually

AWAY = (StoreUnavailableError, TransportUnavailableError, BankFailedError, BankUnavailableError)
SEQUENCES = [schema.core(), log_migrations(), bank_migrations()]
TOPIC = "topic"
PATIENT_MS = 30_000
QUICK_MS = 300
NUMBERS = count()
C = TypeVar("C", bound="Closable")
IGNORED = (
    "ignore_startup_parameters = search_path,default_transaction_isolation,statement_timeout,lock_timeout,"
    "idle_in_transaction_session_timeout,tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count,"
    "tcp_user_timeout,jit,enable_bitmapscan,enable_seqscan,enable_hashjoin,enable_mergejoin,plan_cache_mode,"
    "enable_sort,synchronous_commit"
)
"""What a PgBouncer has to be told for drivers that send their settings at startup; then it drops them."""

POOLING = "set pool_mode = session in PgBouncer"

Use = Callable[[], Awaitable[None]]

Kind = Callable[[str], AbstractAsyncContextManager[Use]]


class Closable(Protocol):
    async def close(self) -> None: ...


def store_of(url: str) -> AbstractAsyncContextManager[PostgresStore]:
    return closing(PostgresStore.connect(url, tables=[], statement_timeout_ms=PATIENT_MS))


def log_of(url: str) -> AbstractAsyncContextManager[PostgresLogTransport]:
    return closing(PostgresLogTransport.connect(url, timeout_s=PATIENT_MS / 1000, session_timeout_s=10))


@asynccontextmanager
async def closing(opening: Awaitable[C]) -> AsyncIterator[C]:
    opened = await opening
    try:
        yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def batches(url: str) -> AsyncIterator[Use]:
    """A transaction of the pool."""
    async with store_of(url) as store:
        yield lambda: commit(store, changes(outbox=[outgoing("k")]))


@asynccontextmanager
async def looking(url: str) -> AsyncIterator[Use]:
    """A query of the pool for readers."""
    async with store_of(url) as store:

        async def use() -> None:
            await store.fetch("SELECT count(*) FROM outbox")

        yield use


@asynccontextmanager
async def relaying(url: str) -> AsyncIterator[Use]:
    """Look for what is unsent, and mark it."""
    async with store_of(url) as store:
        reader = store.outbox()

        async def use() -> None:
            value = b"%d" % next(NUMBERS)
            await commit(store, changes(outbox=[outgoing("k", value)]))
            if len(await reader.claim_slots()) < store.slots:
                raise StoreUnavailableError("not all slots yet")
            rows = await reader.unsent(1000)
            assert value in [row.value for row in rows]
            await reader.mark_sent([row.id for row in rows])
            assert not reader.held

        yield use


@asynccontextmanager
async def appending(url: str) -> AsyncIterator[Use]:
    """Append to the log."""
    async with log_of(url) as transport:
        yield lambda: transport.append(numbered(TOPIC, 1))


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Use]:
    """Poll as a member of a group, and commit."""
    async with log_of(url) as transport:
        member = await transport.subscribe("group", [TOPIC])

        async def use() -> None:
            await transport.append(numbered(TOPIC, 1))
            async with asyncio.timeout(30):
                await member.commit(await take(member, 1))

        yield use


@asynccontextmanager
async def booking(url: str) -> AsyncIterator[Use]:
    """A charge in the bank's book."""
    book = PostgresBook(url, statement_timeout_ms=PATIENT_MS)

    async def use() -> None:
        await book.charge(charge(uuid4().hex))

    try:
        yield use
    finally:
        await book.close()


@asynccontextmanager
async def checking(url: str) -> AsyncIterator[Use]:
    """What a service does before it starts, and every command line."""
    yield lambda: schema.check(url, SEQUENCES)


@asynccontextmanager
async def auditing(url: str) -> AsyncIterator[Use]:
    """One snapshot of every database."""

    async def use() -> None:
        async with opened(dict.fromkeys(audited(), url)) as databases, databases.snapshots():
            pass

    yield use


KINDS: tuple[Kind, ...] = (batches, looking, relaying, appending, reading, booking, checking, auditing)
LASTING = KINDS[:6]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
every_lasting_kind = pytest.mark.parametrize("kind", LASTING, ids=lambda kind: kind.__name__)


async def prepare(url: str) -> None:
    await schema.migrate(url, SEQUENCES)
    transport = await PostgresLogTransport.connect(url)
    await transport.create_topics([TopicSettings(TOPIC, 1)])
    await transport.close()


@pytest.fixture(scope="module")
def template(postgres: PostgresServer) -> Iterator[str]:
    name = f"sessions_{uuid4().hex[:8]}"
    asyncio.run(prepare(postgres.create_database(name)))
    yield name
    postgres.drop_database(name)


@pytest.fixture
def url(postgres: PostgresServer, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    yield postgres.create_database(name, template)
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def successor() -> Iterator[PostgresServer]:
    """The server that is there after a failover."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def database(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def at_port(url: str, *ports: int) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return urlsplit(url)._replace(netloc=f"postgres@{hosts}").geturl()


async def entered(stack: AsyncExitStack, kind: AbstractAsyncContextManager[Use]) -> Use | None:
    try:
        return await stack.enter_async_context(kind)
    except AWAY:
        return None


async def works(use: Use) -> bool:
    try:
        await use()
    except (*AWAY, TimeoutError):
        return False
    return True


@every_kind
async def test_after_a_cut_another_session_is_opened(postgres: PostgresServer, url: str, kind: Kind) -> None:
    async with kind(url) as use:
        await use()
        postgres.execute(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{database(url)}'"
        )
        await eventually(lambda: works(use))


@every_lasting_kind
async def test_after_a_failover_the_server_that_can_be_written_to_is_found(
    postgres: PostgresServer, successor: PostgresServer, url: str, kind: Kind
) -> None:
    name = database(url)
    await prepare(successor.create_database(name))
    try:
        async with kind(at_port(url, postgres.port, successor.port)) as use:
            await use()
            assert sessions(postgres, name)
            assert not sessions(successor, name)
            make_read_only(postgres, "on")

            async def moved() -> bool:
                return await works(use) and sessions(successor, name) > 0

            await eventually(moved)
    finally:
        make_read_only(postgres, "off")
        successor.drop_database(name)


def make_read_only(server: PostgresServer, value: str) -> None:
    server.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    server.execute("SELECT pg_reload_conf()")


def sessions(server: PostgresServer, name: str) -> int:
    return int(server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"))


async def test_a_server_that_is_read_only_says_so_and_may_be_looked_at(postgres: PostgresServer, url: str) -> None:
    postgres.execute(f'ALTER DATABASE "{database(url)}" SET default_transaction_read_only = on')

    with pytest.raises(StoreUnavailableError, match="the server is read-only"):
        await postgres_sessions.connect(url, application_name="test")
    looking = await postgres_sessions.connect(url, application_name="test", writable=False)

    assert await looking.fetchval("SELECT count(*) FROM outbox") == 0
    await postgres_sessions.leave(looking)


@every_lasting_kind
async def test_a_session_that_does_not_answer_is_given_up(
    postgres: PostgresServer, url: str, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.PATIENT_MS", QUICK_MS)
    monkeypatch.setattr(postgres_sessions, "ANSWER_GRACE_S", 0.2)
    async with proxy(postgres.port) as way, AsyncExitStack() as stack:
        use = await eventually(lambda: entered(stack, kind(at_port(url, way.port))))
        assert use is not None
        await eventually(lambda: works(use))
        monkeypatch.setattr(postgres_sessions, "CONNECT_TIMEOUT_S", 1.0)
        way.hold()
        async with asyncio.timeout(60):
            assert not await works(use)
        way.release()
        monkeypatch.setattr(postgres_sessions, "CONNECT_TIMEOUT_S", 30.0)
        await eventually(lambda: works(use))


async def test_a_host_that_does_not_answer_leaves_time_for_the_next(
    postgres: PostgresServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_sessions, "CONNECT_TIMEOUT_S", 10.0)
    async with proxy(postgres.port) as way:
        way.hold()
        connection = await postgres_sessions.connect(at_port(url, way.port, postgres.port), application_name="test")
        await postgres_sessions.leave(connection)


@every_kind
async def test_another_search_path_of_the_database_is_no_matter(
    postgres: PostgresServer, url: str, kind: Kind
) -> None:
    postgres.execute(f"ALTER DATABASE \"{database(url)}\" SET search_path = 'elsewhere'")
    async with kind(url) as use:
        await use()


@pytest.fixture(scope="module", params=["", IGNORED], ids=["strict", "ignoring"])
def session_pooling(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[int]:
    yield from pooling(postgres, "session", request.param)


@pytest.fixture(scope="module", params=["transaction", "statement"])
def other_pooling(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[int]:
    yield from pooling(postgres, request.param)


def pooling(postgres: PostgresServer, mode: str, more: str = "") -> Iterator[int]:
    if reason := missing():
        pytest.skip(reason)
    with pgbouncer(postgres.port, mode, more) as port:
        yield port


@every_kind
async def test_behind_a_pooler_that_keeps_sessions_everything_works(
    url: str, session_pooling: int, kind: Kind
) -> None:
    async with kind(at_port(url, session_pooling)) as use:
        await use()
        await use()


@every_kind
async def test_a_pooler_that_keeps_no_sessions_is_refused(url: str, other_pooling: int, kind: Kind) -> None:
    with pytest.raises(AWAY, match=POOLING):
        async with kind(at_port(url, other_pooling)) as use:
            await use()


async def test_a_service_behind_a_pooler_that_keeps_no_sessions_does_not_start(
    url: str, other_pooling: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = Settings.load(
        environ={},
        home=tmp_path,
        overrides={"inventory_database_url": at_port(url, other_pooling), "inventory_port": 0, "log_format": "json"},
    )
    code = await asyncio.wait_for(run_service(INVENTORY, settings, port=0, announce=print), 60)

    assert code == 2
    assert POOLING in "".join(capfd.readouterr())
