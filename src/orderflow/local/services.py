"""The services that this project runs, and the migrations of every database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import cast

from orderflow.messaging.decision import Service
from orderflow.messaging.stores.postgres.migrations import MigrationSequence, schema_of
from orderflow.messaging.transports.postgres_log import log_migrations
from orderflow.settings import SERVICES, Settings

DATABASES = (*SERVICES, "log", "bank")


def definition_of(name: str) -> Service:
    """Imports that service alone. Raises KeyError for a name that is none."""
    if name not in SERVICES:
        raise KeyError(name)
    return cast(Service, import_module(f"orderflow.{name}.service").SERVICE)


def definitions() -> Mapping[str, Service]:
    return {name: definition_of(name) for name in SERVICES}


def sequences_of(name: str) -> Sequence[MigrationSequence]:
    """The migrations of the database of a service, of the log or of the bank."""
    if name == "log":
        return [log_migrations()]
    if name == "bank":
        return [cast(MigrationSequence, import_module("orderflow.bank.postgres").bank_migrations())]
    return schema_of(definition_of(name))


def plans(settings: Settings) -> Mapping[str, tuple[str, Sequence[MigrationSequence]]]:
    """For each database its URL and its migrations. Raises SettingsError: no URL."""
    return {name: (settings.service_database_url(name), sequences_of(name)) for name in DATABASES}


def on_common_server(settings: Settings) -> list[str]:
    """The databases that have no URL of their own and so stand on the server of `database_url`."""
    return [name for name in DATABASES if getattr(settings, f"{name}_database_url") is None]
