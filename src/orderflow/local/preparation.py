"""What has to be there before a service can start."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from orderflow.local import carrier, installation, provision, services, transports
from orderflow.local.postgres import EmbeddedPostgres
from orderflow.settings import Settings


class Preparation(Protocol):
    """Databases, tables and topics; and the question whether they may be left alone."""

    async def databases(self, settings: Settings, server: EmbeddedPostgres | None) -> UUID:
        """Returns whose they are: the installation. Raises LocalError."""
        ...

    async def topics(self, settings: Settings, installation: UUID, *, take_over: bool) -> None:
        """Raises LocalError, SettingsError: they are another installation's, and are not taken over."""
        ...

    async def under_way(self, settings: Settings) -> list[str]:
        """What is not finished on the transport of these settings, in words. Raises LocalError."""
        ...


class RealPreparation:
    """As the services need it."""

    async def databases(self, settings: Settings, server: EmbeddedPostgres | None) -> UUID:
        await make_databases(settings, server)
        await provision.make_tables(services.plans(settings))
        return await installation.settle(settings)

    async def topics(self, settings: Settings, installation: UUID, *, take_over: bool) -> None:
        await transports.make_topics(settings, installation, take_over=take_over)

    async def under_way(self, settings: Settings) -> list[str]:
        return await carrier.under_way(settings)


async def make_databases(settings: Settings, server: EmbeddedPostgres | None) -> int:
    """Roles and databases on the embedded server, or on the one of `database_url`; returns how many statements.

    A database with a URL of its own is left to whoever gave it. Raises MissingRightsError, LocalError.
    """
    if server is not None:
        return await provision.make_databases(server.url(), services.databases(), server.password, exclusive=True)
    if settings.database_url is None:
        return 0
    url = settings.database_url.reveal()
    names = services.on_common_server(settings)
    return await provision.make_databases(url, names, lambda _: provision.password_of(url))
