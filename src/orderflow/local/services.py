"""The services that this project runs, and the migrations of every database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orderflow.bank.postgres import bank_migrations
from orderflow.core.postgres.schema import MigrationSequence, schema_of
from orderflow.core.postgres_log import log_migrations
from orderflow.core.service import Service
from orderflow.privacy.key_store import keys_migrations
from orderflow.registry import RegistryError, database_names, service_names, service_of
from orderflow.settings import Secret, Settings
from orderflow.settings.readers import HIDDEN

NEEDED_BY_ALL = frozenset({"alert_url", "alert_secret", "kafka_ssl_key_password"})


def databases() -> tuple[str, ...]:
    """The units that have a database."""
    return database_names()


def definitions() -> Mapping[str, Service]:
    """Every service, imported."""
    return {name: service_of(name) for name in service_names()}


def sequences_of(name: str) -> Sequence[MigrationSequence]:
    """The migrations of the database of a service, of the log, of the bank or of the keys of customers.

    Raises RegistryError: those of a service cannot be read.
    """
    if name == "log":
        return [log_migrations()]
    if name == "bank":
        return [bank_migrations()]
    if name == "keys":
        return [keys_migrations()]
    service = service_of(name)
    try:
        return schema_of(service)
    except (ValueError, ImportError) as error:
        raise RegistryError(f"the migrations of the service {name} cannot be read: {error}") from error


def plans(settings: Settings) -> Mapping[str, tuple[str, Sequence[MigrationSequence]]]:
    """For each database its URL and its migrations. Raises SettingsError: no URL, where one is needed: the keys of
    customers are not kept where nobody says where.
    """
    names = [name for name in databases() if settings.keeps_keys or name != "keys"]
    return {name: (settings.service_database_url(name), sequences_of(name)) for name in names}


def on_common_server(settings: Settings) -> list[str]:
    """The databases that have no URL of their own and so stand on the server of `database_url`."""
    return [name for name in databases() if settings.database_of(name) is None]


def alone(settings: Settings, name: str) -> Settings:
    """What the process of one service is told: of passwords, those alone that it needs."""
    needed = [name]
    if settings.transport == "postgres":
        needed.append("log")
    if service_of(name).gateway is not None:
        needed.append("bank")
    if service_of(name).personal:
        needed.append("keys")
    has_server = settings.database_url is not None
    databases = {
        f"{each}_database_url": Secret(settings.service_database_url(each))
        for each in needed
        if has_server or settings.database_of(each) is not None
    }
    username, password = settings.kafka_user(name)
    kafka = {"kafka_username": username, "kafka_password": None if password is None else Secret(password, HIDDEN)}
    others = dict.fromkeys(settings.secrets().keys() - NEEDED_BY_ALL)
    keys = {"keys_master_key": settings.keys_master_key if service_of(name).personal else None}
    return settings.replaced(**{**others, f"{name}_kafka_username": None, **databases, **kafka, **keys})
