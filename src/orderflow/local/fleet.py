"""The service processes of a run: how many, where, and how they are started."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orderflow.local.environment import settings_environment
from orderflow.local.home import Home
from orderflow.local.ports import require_free
from orderflow.local.service import ServiceCommand, ServiceUnit
from orderflow.registry import service_names
from orderflow.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What `up` is asked for beyond settings.

    `take_over`: use topics that another installation has used. `processes`: how many of a service, where not one.
    """

    own_broker: bool = False
    drain: bool = False
    take_over: bool = False
    processes: Mapping[str, int] = field(default_factory=dict)


def service_command(name: str) -> Sequence[str]:
    """Shown by ps as `orderflow run NAME`."""
    return [sys.executable, "-m", "orderflow", "run", name, "--control-pipe"]


class Fleet:
    """Every service once or more; the first process of each has the known port, the others any free one."""

    def __init__(self, command: Callable[[str], Sequence[str]] = service_command) -> None:
        self._command = command

    def require_ports(self, settings: Settings) -> None:
        """Raises LocalError when a known port is taken."""
        for name in service_names():
            if settings.service_port(name):
                require_free(settings.service_port(name), f"the service {name}", f"--{name}-port", settings.host)

    def units(self, settings: Settings, options: UpOptions, home: Home) -> list[ServiceUnit]:
        """What the supervisor is to start."""
        return [
            self._unit(settings, home, label, name, settings.service_port(name) if number == 1 else 0)
            for name, number, label in _labels(options)
        ]

    def captured_logs(self, options: UpOptions, home: Home) -> list[Path]:
        """What services say beside their logs."""
        return [_stderr(home, label) for _, _, label in _labels(options)]

    def _unit(self, settings: Settings, home: Home, label: str, name: str, port: int) -> ServiceUnit:
        log_file = home.logs / f"{label}.log"
        environment = settings_environment(settings, os.environ, **{f"{name}_port": port, "log_file": log_file})
        command = ServiceCommand(label, self._command(name), environment, settings.host, _stderr(home, label))
        return ServiceUnit(command, drain_timeout_s=settings.drain_timeout_s)


def _labels(options: UpOptions) -> list[tuple[str, int, str]]:
    """Service, number from 1, and the label of the process: `order`, `order-2`, …"""
    return [
        (name, number, name if number == 1 else f"{name}-{number}")
        for name in service_names()
        for number in range(1, options.processes.get(name, 1) + 1)
    ]


def _stderr(home: Home, label: str) -> Path:
    return home.logs / f"{label}.stderr.log"
