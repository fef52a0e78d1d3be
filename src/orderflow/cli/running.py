"""Where things are: as the settings say, or as `orderflow up` has noted it in its home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orderflow.cli.errors import UnreachableError
from orderflow.registry import service_names
from orderflow.settings import Settings

if TYPE_CHECKING:
    from orderflow.cli.http import ServiceClient
    from orderflow.local.state import State

MARKER_NAME = "home.json"


def as_running(settings: Settings) -> Settings:
    """The settings with the addresses of what runs on this home, where nobody has said another one.

    A home on which nothing runs changes nothing. Raises LocalError: its passwords cannot be read.
    """
    found = running_state(settings)
    if found is None:
        return settings
    from orderflow.local.state import joining

    urls = {
        f"{process.name}_url": process.address
        for process in reversed(found.processes)
        if process.kind == "service" and process.name in service_names() and _is_default(settings, process.name)
    }
    return joining(settings, found).replaced(**urls)


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
    from orderflow.local.home import Home
    from orderflow.local.state import running

    return running(Home(settings.home))


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
