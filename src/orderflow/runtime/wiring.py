"""From settings to plain values and real parts: the only place where a service meets its settings."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

from orderflow import __version__
from orderflow.core import postgres_log
from orderflow.core.crash_points import Point, reached
from orderflow.core.dead_letters import FLOW_STATUS, topic_of
from orderflow.core.engine import EngineConfig
from orderflow.core.postgres.schema import check, claim_installation, installation_of, schema_of, verify_machine
from orderflow.core.postgres.sessions import TransactionPoolingError
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres.tables import tables_of
from orderflow.core.service import Service
from orderflow.core.store import StoreUnavailableError
from orderflow.core.telemetry import Signals
from orderflow.core.timing import Clock
from orderflow.core.transport import (
    Claim,
    ClaimedError,
    PrefixedTransport,
    TopicSettings,
    Transport,
    TransportUnavailableError,
)
from orderflow.http.framing import FramingLimits
from orderflow.http.protocol import HttpLimits, allow_files, files_wanted, limits_for
from orderflow.privacy.customers import ConcealedCustomers
from orderflow.privacy.key_store import KeyStore, keys_migrations
from orderflow.privacy.pseudonyms import MasterKey, WrongMasterKeyError
from orderflow.runtime.definition import ServiceConfig
from orderflow.settings import Settings, SettingsError

if TYPE_CHECKING:
    from orderflow.core.kafka.security import KafkaSecurity
    from orderflow.observability.tracing import Tracing

_MS_A_HOUR = 3_600_000


async def connect_transport(
    settings: Settings, rng: random.Random | None = None, *, service: str | None = None
) -> Transport:
    """The caller closes it. Kafka is told who we are: a `service`, or whoever makes topics and reads them.

    Raises TransportUnavailableError, SchemaBehindError, SettingsError (a URL that cannot be used).
    """
    return named(await _connect(settings, rng, service), settings)


def named(transport: Transport, settings: Settings) -> Transport:
    """The transport, on which topics and groups have the prefixes of the settings."""
    topics = settings.topic_prefix
    groups = topics if settings.group_prefix is None else settings.group_prefix
    return PrefixedTransport(transport, topics=topics, groups=groups) if topics or groups else transport


async def _connect(settings: Settings, rng: random.Random | None, service: str | None) -> Transport:
    if settings.transport == "kafka":
        return await _connect_kafka(settings, service)
    url = settings.service_database_url("log")
    try:
        await postgres_log.check(url)
        return await postgres_log.PostgresLogTransport.connect(url, rng=rng)
    except TransactionPoolingError as error:
        raise SettingsError(f"the database URL of the log cannot be used: {error}") from error
    except StoreUnavailableError as error:
        raise TransportUnavailableError(str(error)) from error
    except ValueError as error:
        raise SettingsError(f"the database URL of the log cannot be used: {error}") from error


async def _connect_kafka(settings: Settings, service: str | None) -> Transport:
    from orderflow.core.kafka import KafkaTransport

    try:
        return await KafkaTransport.connect(
            settings.kafka_bootstrap,
            replication=settings.replication_factor,
            security=kafka_security(settings, service).options(),
        )
    except ValueError as error:
        raise SettingsError(f"Kafka at {settings.kafka_bootstrap} cannot be reached: {error}") from error


def kafka_security(settings: Settings, service: str | None) -> KafkaSecurity:
    """How a service talks to Kafka, or whoever makes topics and reads them. Raises SettingsError."""
    from orderflow.core.kafka.security import KafkaSecurity, parse_options

    more: Mapping[str, str] = {}
    file = settings.kafka_options_file
    if file is not None:
        try:
            more = parse_options(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"kafka_options_file {file} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise SettingsError(f"kafka_options_file {file}: {error}") from error
    username, password = settings.kafka_user(service)
    key_password = settings.kafka_ssl_key_password
    return KafkaSecurity(
        protocol=settings.kafka_security_protocol,
        mechanism=settings.kafka_sasl_mechanism,
        username=username,
        password=password,
        ca_file=settings.kafka_ssl_ca_file,
        certificate_file=settings.kafka_ssl_certificate_file,
        key_file=settings.kafka_ssl_key_file,
        key_password=None if key_password is None else key_password.reveal(),
        more=more,
    )


async def claim_topics(transport: Transport, claim: Claim, settings: Settings) -> None:
    """Raises TransportUnavailableError, SettingsError: another installation uses them."""
    try:
        await transport.claim(claim)
    except ClaimedError as error:
        names = sorted(error.owners, key=lambda name: (not name.startswith("topic "), name))
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        where = f"Kafka at {settings.kafka_bootstrap}" if settings.transport == "kafka" else "the log in PostgreSQL"
        raise SettingsError(
            f"on {where} another installation of Orderflow ({error.owners[names[0]]}) uses {shown}; the events of "
            "both would mix. Set ORDERFLOW_TOPIC_PREFIX to give this one names of its own or, if the other one "
            "is gone for good, take them over: `orderflow up --take-over-topics`, or, for services run "
            "without it, `orderflow migrate --take-over-topics`"
        ) from error


def topic_settings(written: Iterable[str], consumed: Iterable[str], settings: Settings) -> list[TopicSettings]:
    """These topics, and for each that is consumed the one of its dead letters."""
    read = list(consumed)
    names = {*written, *read, *map(topic_of, read)}
    retention_ms = settings.topic_retention_hours * _MS_A_HOUR
    return [TopicSettings(name, settings.partitions, retention_ms) for name in sorted(names)]


@asynccontextmanager
async def tracing(
    service: Service, settings: Settings, signals: Signals, rng: random.Random
) -> AsyncIterator[Tracing | None]:
    """While the block runs, spans are sent to `otlp_endpoint`; without one nothing of it is loaded. At its end, what
    still waits is sent.

    Raises SettingsError: what sends them is not installed.
    """
    if settings.otlp_endpoint is None:
        yield None
        return
    from orderflow.observability.tracing import MISSING, Names, OtlpReceiver, SpanSender, Tracing

    try:
        receiver = OtlpReceiver(settings.otlp_endpoint, service.name, __version__)
    except ImportError as error:
        source = settings.sources.get("otlp_endpoint", "default")
        raise SettingsError(f"otlp_endpoint is set (from {source}), but {MISSING}, or remove the setting") from error
    topics = settings.topic_prefix
    groups = topics if settings.group_prefix is None else settings.group_prefix
    system = "kafka" if settings.transport == "kafka" else "postgresql"
    sender = SpanSender(service.name, receiver, signals)
    made = Tracing(Names(system, topics, groups), sender.take, rng, ratio=float(settings.otlp_sample_ratio))
    signals.subscribe(made)
    sender.start()
    try:
        yield made
    finally:
        await sender.close()


def engine_config(settings: Settings) -> EngineConfig:
    return EngineConfig(
        batch_max=settings.batch_max,
        command_queue_max=settings.command_queue_max,
        attempts_max=settings.attempts_max,
        retry_first_ms=settings.retry_first_ms,
        retry_ceiling_ms=settings.retry_ceiling_ms,
        parked_keys_max=settings.parked_keys_max,
        parked_depth_max=settings.parked_depth_max,
        gateway_concurrency=settings.gateway_concurrency,
        intent_lease_ms=settings.intent_lease_ms,
        outbox_slots=settings.outbox_slots,
        two_person=settings.two_person,
        outbox_keep_ms=settings.outbox_keep_hours * _MS_A_HOUR,
        release=__version__,
    )


def http_limits(settings: Settings) -> HttpLimits:
    """As many connections as the settings say, or as there can be files; the process is allowed more of these."""
    connections_max = settings.http_connections_max
    framing = FramingLimits(head_max=settings.http_head_max_kb * 1024, body_max=settings.http_body_max_kb * 1024)
    return replace(
        limits_for(connections_max, allow_files(files_wanted(connections_max)), framing),
        handshake_s=settings.http_handshake_timeout_s,
        head_s=settings.http_head_timeout_s,
        body_s=settings.http_body_timeout_s,
        answer_s=settings.http_answer_timeout_s,
        write_s=settings.http_write_timeout_s,
        idle_s=settings.http_idle_timeout_s,
    )


def service_config(service: Service, settings: Settings, http: HttpLimits) -> ServiceConfig:
    """Those who wait have half of the connections at most. Raises SettingsError: a service with a gateway needs the
    bank's database.
    """
    bank = settings.service_database_url("bank") if service.gateway is not None else None
    return ServiceConfig(
        idempotency_keep_s=settings.idempotency_keep_hours * 3600,
        unfinished_orders_max=settings.unfinished_orders_max,
        gateway_timeout_s=settings.gateway_timeout_ms / 1000,
        http_waiting_max=min(settings.http_waiting_max, http.connections_max // 2),
        demo_catalogue=settings.demo_catalogue,
        two_person=settings.two_person,
        bank_database_url=bank,
    )


async def open_store(service: Service, settings: Settings) -> PostgresStore:
    """A store whose schema is the one of this release.

    Raises StoreUnavailableError, SchemaBehindError, SettingsError (a URL that is none).
    """
    url = settings.service_database_url(service.name)
    try:
        await check(url, schema_of(service))
        store = await PostgresStore.connect(
            url,
            tables=tables_of(service.tables),
            slots=settings.outbox_slots,
            longest_wait_ms=engine_config(settings).longest_wait_ms,
            application_name=f"orderflow {service.name}",
        )
    except ValueError as error:
        raise SettingsError(f"the database URL of {service.name} cannot be used: {error}") from error
    try:
        for machine in service.machines:
            await verify_machine(store, machine)
    except BaseException:
        await store.close()
        raise
    return store


async def open_customers(settings: Settings, clock: Clock) -> ConcealedCustomers:
    """Customers whose keys are at hand.

    Raises StoreUnavailableError, SchemaBehindError, SettingsError (no URL, or one that is none; another master key).
    """
    url, secret = settings.service_database_url("keys"), settings.master_key()
    assert secret is not None
    try:
        await check(url, [keys_migrations()])
        keys = KeyStore(url)
    except ValueError as error:
        raise SettingsError(f"the database URL of the keys cannot be used: {error}") from error
    customers = ConcealedCustomers(keys, MasterKey(secret), clock)
    try:
        await customers.begin()
    except WrongMasterKeyError as error:
        await keys.close()
        raise SettingsError(
            "customers' keys were made under another master key than ORDERFLOW_KEYS_MASTER_KEY, and names "
            "cannot be read without it: set the key used before"
        ) from error
    except BaseException:
        await keys.close()
        raise
    return customers


async def open_transport(service: Service, settings: Settings, store: PostgresStore, rng: random.Random) -> Transport:
    """A connected log that has every topic of the service, none of which another installation uses.

    Raises TransportUnavailableError, StoreUnavailableError, SchemaBehindError, SettingsError (a URL that is none,
    topics of another installation).
    """
    transport = await connect_transport(settings, rng, service=service.name)
    try:
        topics = topic_settings([*service.publishes, FLOW_STATUS], service.reads, settings)
        groups = [each.consumer for each in service.subscriptions]
        await _claim(transport, [topic.name for topic in topics], groups, settings, store)
        reached(Point.START_CLAIMED)
        await transport.create_topics(topics)
    except BaseException:
        await transport.close()
        raise
    return transport


async def _claim(
    transport: Transport, topics: Sequence[str], groups: Sequence[str], settings: Settings, store: PostgresStore
) -> None:
    """For the installation of the service's database. One that is of none yet joins the one whose topics it uses."""
    known = await installation_of(store.fetch)
    claim = Claim(known or uuid4(), topics, groups)
    try:
        await transport.claim(claim)
    except ClaimedError as error:
        owners = set(error.owners.values())
        if known is None and len(owners) == 1:
            claim = replace(claim, owner=owners.pop())
        await claim_topics(transport, claim, settings)
    if known is None:
        await claim_installation(store.fetch, claim.owner)
