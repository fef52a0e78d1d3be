"""What a service's process gets to know: the settings, through its environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from orderflow.local.errors import LocalError
from orderflow.local.home import Carrier
from orderflow.local.provision import database_name
from orderflow.local.services import databases
from orderflow.settings import Secret, Settings

PREFIX = "ORDERFLOW_"


def with_embedded(settings: Settings, url_of: Callable[[str], str]) -> Settings:
    """The settings with the URLs of the embedded server: `url_of` a database, as its owner."""
    urls = {f"{name}_database_url": Secret(url_of(database_name(name))) for name in databases()}
    return settings.replaced(**urls)


def with_carrier(settings: Settings, carrier: Carrier) -> Settings:
    """The settings with what carries the events; our own broker stands where `kafka_bootstrap` says."""
    if carrier.transport == "postgres":
        return dataclasses.replace(settings, transport="postgres")
    bootstrap = carrier.bootstrap or settings.kafka_bootstrap
    return dataclasses.replace(settings, transport="kafka", kafka_bootstrap=bootstrap)


def broker_port(settings: Settings) -> int:
    """The port of our own broker. Raises LocalError when `kafka_bootstrap` is not an address of ours."""
    host, _, port = settings.kafka_bootstrap.rpartition(":")
    if host not in {"127.0.0.1", "localhost"} or not port.isdecimal():
        raise LocalError(
            f"a local Kafka stands on 127.0.0.1:PORT, kafka_bootstrap is {settings.kafka_bootstrap}; "
            "`up --kafka-bootstrap` uses a broker that exists"
        )
    return int(port)


def settings_environment(settings: Settings, environ: Mapping[str, str], **others: object) -> dict[str, str]:
    """`environ` with the settings that were given or changed, said outright; `others` win."""
    inherited = {key: value for key, value in environ.items() if not key.startswith(PREFIX)}
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    values = {entry: getattr(settings, entry) for entry in Settings.meanings() if entry in defaults}
    said = {
        entry: value
        for entry, value in values.items()
        if value is not None and (value != defaults[entry] or settings.sources.get(entry, "default") != "default")
    }
    of_services = {entry: value for entry, value in settings.services.items() if value is not None}
    every = {**of_services, **said, **others}
    return {**inherited, **{PREFIX + key.upper(): _text(value) for key, value in every.items()}}


def _text(value: object) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
