"""Where things are: as the settings say, or as `orderflow up` has noted it in its home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from orderflow.cli.errors import UnreachableError
from orderflow.registry import service_names
from orderflow.settings import Secret, Settings

if TYPE_CHECKING:
    from orderflow.cli.http import ServiceClient
    from orderflow.local.state import State

SOCKET_PORT = 5432
MARKER_NAME = "home.json"


def as_running(settings: Settings) -> Settings:
    """The settings with the addresses of what runs on this home, where nobody has said another one.

    A home on which nothing runs changes nothing. Raises LocalError: its passwords cannot be read.
    """
    state = running_state(settings)
    if state is None:
        return settings
    changed: dict[str, Any] = {}
    for process in reversed(state.processes):
        if process.kind == "service" and process.name in service_names() and _is_default(settings, process.name):
            changed[f"{process.name}_url"] = process.address
    if not settings.is_given("transport"):
        changed["transport"] = state.transport
    if state.bootstrap is not None and not settings.is_given("kafka_bootstrap"):
        changed["kafka_bootstrap"] = state.bootstrap
    if settings.embedded and state.postgres is not None:
        changed |= _embedded_urls(settings.home, state.postgres)
    return settings.replaced(**changed)


def client_of(running: Settings, service: str, **options: Any) -> ServiceClient:
    """A client for a service of this home; the caller closes it. `running` is what `as_running` has returned.

    An address that somebody has said outright is taken at its word, and so is everything where there is no home.
    Raises UnreachableError: there is a home, on which nothing has run yet.
    """
    from orderflow.cli.http import ServiceClient

    url = running.service_url(service)
    if running.is_given(f"{service}_url") or not (running.home / MARKER_NAME).is_file():
        return ServiceClient(service, url, **options)
    from orderflow.local.home import Home

    installation = Home(running.home).installation()
    if installation is None and running_state(running) is not None:
        raise UnreachableError(
            f"What runs on {running.home} is still starting, or was started by an earlier release (then restart it "
            "with: orderflow down, orderflow up)"
        )
    if installation is None:
        raise UnreachableError(f"Nothing runs on {running.home}. Start it with: orderflow up")
    return ServiceClient(service, url, installation=installation, **options)


def running_state(settings: Settings) -> State | None:
    """What the supervisor of this home has noted, if it is alive."""
    if not (settings.home / "state.json").is_file():
        return None
    from orderflow.local import state

    found = state.read(settings.home / "state.json")
    return found if found is not None and found.supervisor.find() is not None else None


def database_url(settings: Settings, name: str) -> str:
    """With its password, of a service, of `log` or of `bank`. Raises UnreachableError, SettingsError."""
    if settings.embedded:
        raise UnreachableError(
            f"No PostgreSQL runs on the home {settings.home}. Start it with: orderflow up. "
            "(For a server of your own set ORDERFLOW_DATABASE_URL)"
        )
    return settings.service_database_url(name)


def _is_default(settings: Settings, service: str) -> bool:
    return settings.given_url(service) is None


def _embedded_urls(home: Path, where: str) -> dict[str, Secret]:
    from orderflow.local.secrets import SecretsFile

    if not (home / "secrets.json").is_file():
        return {}
    kept = SecretsFile(home / "secrets.json")
    names = (*service_names(), "log", "bank")
    return {
        f"{name}_database_url": Secret(_url(where, f"orderflow_{name}", kept.password(f"orderflow_{name}")))
        for name in names
    }


def _url(where: str, role: str, password: str) -> str:
    credentials = f"{role}:{quote(password, safe='')}"
    host, _, port = where.rpartition(":")
    if port.isdecimal() and "/" not in where:
        return f"postgresql://{credentials}@{host}:{port}/{role}"
    query = urlencode({"host": where, "port": SOCKET_PORT})
    return f"postgresql://{credentials}@/{role}?{query}"
