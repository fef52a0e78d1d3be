"""One identity for all databases of an installation: made by the first `up` or `migrate`, never changed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import asyncpg

from orderflow.local.errors import LocalError
from orderflow.messaging.store import DataRefusedError, SchemaBehindError, StoreUnavailableError
from orderflow.messaging.stores.postgres.connections import connect
from orderflow.messaging.stores.postgres.installation import Fetch, installation_of, settle_installation
from orderflow.registry import service_names
from orderflow.settings import Settings

APPLICATION = "orderflow installation"


async def settle(settings: Settings) -> UUID:
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
    except (StoreUnavailableError, SchemaBehindError, DataRefusedError, asyncpg.PostgresError) as error:
        raise LocalError(f"whose databases these are cannot be told: {error}") from error


async def _agree(databases: list[Fetch]) -> UUID:
    found = [await installation_of(fetch) for fetch in databases]
    proposed = next((each for each in found if each is not None), None) or uuid4()
    settled = [proposed := await settle_installation(fetch, proposed) for fetch in databases]
    if len(set(settled)) > 1:
        each = ", ".join(
            f"{name} of {installation}" for name, installation in zip(service_names(), settled, strict=True)
        )
        raise LocalError(f"the databases are of different installations: {each}; look at the database settings")
    return proposed
