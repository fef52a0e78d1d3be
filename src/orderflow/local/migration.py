"""`orderflow migrate`: bring databases to this release, wherever they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from orderflow.local import installation, provision, services
from orderflow.local.attach import attached
from orderflow.local.environment import with_embedded
from orderflow.local.home import Home
from orderflow.local.postgres import EmbeddedPostgres
from orderflow.local.preparation import make_databases
from orderflow.local.transports import make_topics
from orderflow.messaging.stores.postgres.migrations import Applied
from orderflow.settings import Settings


async def migrate(settings: Settings, *, take_over_topics: bool = False) -> Sequence[Applied]:
    """Make what is missing, and settle whose databases these are.

    `take_over_topics`: also claim the topics and groups for this installation, whosesoever they were. Raises
    MissingRightsError, LocalError, SettingsError.
    """
    async with _reachable(settings) as (reached, server):
        await make_databases(reached, server)
        applied = await provision.make_tables(services.plans(reached))
        settled = await installation.settle(reached)
        home = Home(settings.home)
        if home.exists():
            home.remember_installation(settled)
        if take_over_topics:
            await make_topics(reached, settled, take_over=True)
        return applied


async def missing(settings: Settings) -> Sequence[str]:
    """The statements for roles and databases that an administrator would have to run. Raises LocalError."""
    if settings.database_url is None:
        return []
    url = settings.database_url.reveal()
    names = services.on_common_server(settings)
    return await provision.missing_databases(url, names, lambda _: provision.password_of(url))


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
