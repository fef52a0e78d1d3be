"""Databases for the floor, beside those of the running system on the same server."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from benchmarks.system import System
from orderflow.local import state
from orderflow.local.home import Home, database_url, secrets_of
from orderflow.local.postgres import SUPERUSER
from orderflow.local.services import sequences_of
from orderflow.messaging.stores.postgres.migrations import migrate
from orderflow.messaging.stores.postgres.queries import load_queries

NAMES = ("order", "payment", "inventory", "notification", "bank", "log")


def admin_url(system: System) -> str:
    """The superuser's URL of the embedded server of a running system."""
    home = Home(system.settings.home)
    found = state.running(home)
    if found is None or found.postgres is None:
        raise RuntimeError("the floor needs the embedded PostgreSQL of a running system")
    return database_url(found.postgres, "postgres", SUPERUSER, secrets_of(home.path).password(SUPERUSER))


async def make_floor_databases(admin: str) -> Mapping[str, str]:
    """Make them anew, with the tables that the services have; returns their URLs by name."""
    await drop_floor_databases(admin)
    await _for_each(admin, "create")
    urls = {name: _to_database(admin, f"floor_{name}") for name in NAMES}
    for name, url in urls.items():
        await migrate(url, sequences_of(name))
    return urls


async def drop_floor_databases(admin: str) -> None:
    """Take them away, so that the server does not vacuum them while something else is measured."""
    await _for_each(admin, "drop")


async def _for_each(admin: str, what: str) -> None:
    statements = load_queries("benchmarks", "databases.sql")
    connection = await asyncpg.connect(admin)
    try:
        for name in NAMES:
            await connection.execute(statements[f"{what}_{name}"])
    finally:
        await connection.close()


def _to_database(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
