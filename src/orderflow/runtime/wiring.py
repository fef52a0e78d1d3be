"""From settings to plain values and real parts: the only place where a service meets its settings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

from orderflow import __version__
from orderflow.messaging.crash_points import Point, reached
from orderflow.messaging.decision import Service
from orderflow.messaging.engine_config import EngineConfig
from orderflow.messaging.flow import FLOW_STATUS
from orderflow.messaging.stores.postgres.installation import installation_of, settle_installation
from orderflow.messaging.stores.postgres.machines import verify_machine
from orderflow.messaging.stores.postgres.migrations import check, schema_of
from orderflow.messaging.stores.postgres.store import PostgresStore
from orderflow.messaging.stores.postgres.tables import tables_of
from orderflow.messaging.transport import Claim, ClaimedError, Transport
from orderflow.runtime.connections import HttpLimits, allow_files, files_wanted, limits_for
from orderflow.runtime.definition import ServiceConfig
from orderflow.runtime.transports import claim_topics, connect_transport, topic_settings
from orderflow.settings import Settings, SettingsError

_MS_A_HOUR = 3_600_000


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
        outbox_keep_ms=settings.outbox_keep_hours * _MS_A_HOUR,
        release=__version__,
    )


def http_limits(settings: Settings) -> HttpLimits:
    """As many connections as the settings say, or as there can be files; the process is allowed more of these."""
    connections_max = settings.http_connections_max
    return limits_for(connections_max, allow_files(files_wanted(connections_max)))


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


async def open_transport(
    service: Service, settings: Settings, store: PostgresStore, chance: random.Random
) -> Transport:
    """A connected log that has every topic of the service, none of which another installation uses.

    Raises TransportUnavailableError, StoreUnavailableError, SchemaBehindError, SettingsError (a URL that is none,
    topics of another installation).
    """
    transport = await connect_transport(settings, chance)
    try:
        consumed = [topic for each in service.subscriptions for topic in each.topics]
        topics = topic_settings([*service.publishes, FLOW_STATUS], consumed, settings)
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
        await settle_installation(store.fetch, claim.owner)
