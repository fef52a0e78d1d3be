"""Which services a system is made of: the four of an order's saga, and those that other distributions add.

A distribution adds one by an entry point of the group `orderflow.services`, such as
`shipping = "shipping_service:SERVICE"`. The command line asks for the names at each start, so they are read from what
installers have written beside the packages, without importlib.metadata: 1 ms in the place of 30.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderflow.core.service import Service

GROUP = "orderflow.services"
FIRST_PORT = 8001

_SAGA: Mapping[str, str] = MappingProxyType(
    {
        "order": "orderflow.services.order.service:SERVICE",
        "payment": "orderflow.services.payment.service:SERVICE",
        "inventory": "orderflow.services.inventory.service:SERVICE",
        "notification": "orderflow.services.notification.service:SERVICE",
    }
)
SAGA = tuple(_SAGA)
"""The services that carry an order to its end, in the order in which they are started."""

_NAME = re.compile(r"[a-z][a-z0-9]{0,39}")
RESERVED = frozenset(
    {
        "alert",
        "bank",
        "console",
        "database",
        "home",
        "host",
        "http",
        "kafka",
        "keys",
        "log",
        "oidc",
        "ops",
        "postgres",
        "tls",
        "token",
        "up",
    }
)
"""No service is called so: other units of a system and other settings are."""


class RegistryError(Exception):
    """A distribution adds a service that cannot be one. Its text is fit to be shown to a user."""


@cache
def service_names() -> tuple[str, ...]:
    """The saga's services, then the others by name: the order in which they are started and shown, and by which a
    service has its port if no setting says one. Raises RegistryError.
    """
    return tuple(targets())


def database_names() -> tuple[str, ...]:
    """Whatever has a database: every service, the log, the bank, and the keys of customers."""
    return (*service_names(), "log", "bank", "keys")


def default_port(name: str) -> int:
    """From 8001 on, in the order of `service_names`; 0 (any) for a service that is not registered."""
    names = service_names()
    return FIRST_PORT + names.index(name) if name in names else 0


def place_of(name: str) -> tuple[str, str]:
    """The module and the attribute that declare a service. Raises KeyError for a name that is not registered."""
    module, _, attribute = targets()[name].partition(":")
    return module, attribute


@cache
def service_of(name: str) -> Service:
    """Imports that service alone. Raises KeyError for a name that is not registered, RegistryError for a service that
    cannot be loaded.
    """
    from orderflow.core.service import Service

    target = targets()[name]
    module, attribute = place_of(name)
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # whatever the module of somebody else raises when it is imported
        raise RegistryError(
            f"the service {name} cannot be loaded from {target}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, Service) or found.name != name:
        what = f"the service {found.name}" if isinstance(found, Service) else f"of the type {type(found).__name__}"
        raise RegistryError(f"the service {name} cannot be loaded: {target} is {what}, not a Service of this name")
    if unreadable := [each.__name__ for each in found.unreadable()]:
        raise RegistryError(
            f"the service {name} handles {', '.join(unreadable)}, but its catalogue lacks it: add it there"
        )
    return found


@cache
def targets() -> Mapping[str, str]:
    """Name → `module:attribute`."""
    added: dict[str, str] = {}
    for name, target in sorted(_entry_points(sys.path)):
        if added.get(name, target) != target or name in _SAGA:
            other = _SAGA.get(name) or added[name]
            raise RegistryError(f"two services are called {name}: {other} and {target}. Uninstall one")
        if not _NAME.fullmatch(name) or name in RESERVED:
            raise RegistryError(
                f"{target} cannot be a service called {name!r}: a name has lowercase letters and digits, begins with "
                f"a letter, and is none of {', '.join(sorted(RESERVED))}"
            )
        added[name] = target
    return {**_SAGA, **added}


def _entry_points(folders: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name and target of each entry point of the group, in the first folder that has its distribution."""
    seen: set[str] = set()
    for folder in folders:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")) and (distribution := name.partition("-")[0]) not in seen:
                seen.add(distribution)
                yield from _lines(os.path.join(folder, name, "entry_points.txt"))


def _lines(path: str) -> Iterator[tuple[str, str]]:
    """The format of `entry_points.txt`: https://packaging.python.org/specifications/entry-points/"""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, ValueError):
        return
    section = ""
    for line in map(str.strip, lines):
        if line.startswith("["):
            section = line[1:].rstrip("]").strip()
        elif section == GROUP and line and not line.startswith(("#", ";")):
            name, _, target = line.partition("=")
            yield name.strip(), target.partition("[")[0].strip()
