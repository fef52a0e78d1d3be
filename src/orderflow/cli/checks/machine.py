"""The machine: Python, what is installed, the home, its disk, the ports."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from orderflow.cli.checks.verdict import FAILED, OK, SKIPPED, WARNING, Verdict
from orderflow.cli.running import running_state
from orderflow.registry import service_names
from orderflow.settings import Settings

PYTHON_NEEDED = (3, 11)
DISK_NEEDED_MB = 200
DISK_WANTED_MB = 2000
ANSWER_TIMEOUT_S = 2.0
REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\s*>=\s*([0-9.]+))?[^;]*(;.*)?$")


def python() -> Verdict:
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < PYTHON_NEEDED:
        return Verdict("python", FAILED, found, "Python 3.11 or newer is needed")
    return Verdict("python", OK, f"{found} on {sys.platform}")


def dependencies() -> Verdict:
    """Every package that the project requires, in the version that it requires."""
    wrong = [problem for text in metadata.requires("orderflow") or [] if (problem := _problem_of(text))]
    if wrong:
        return Verdict("dependencies", FAILED, "; ".join(wrong), "Install the locked versions with: ./run_all.sh")
    return Verdict("dependencies", OK, "all installed")


def home(settings: Settings) -> Verdict:
    """Whether it is ours, or can be made."""
    from orderflow.local.home import HARMLESS, Home

    path = settings.home
    if path.exists() and not path.is_dir():
        return Verdict("home", FAILED, f"{path} is a file", "Choose a folder with --home or ORDERFLOW_HOME")
    existing = _nearest_folder(path)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Verdict("home", FAILED, f"no right to write in {existing}", "Choose another one with ORDERFLOW_HOME")
    if not path.exists():
        return Verdict("home", OK, f"{path} does not exist yet and can be made")
    strangers = [entry.name for entry in path.iterdir() if entry.name not in HARMLESS]
    if strangers and not Home(path).exists():
        return Verdict("home", FAILED, f"{path} holds something else than Orderflow's data", "Choose another folder")
    return Verdict("home", OK, str(path))


def disk(settings: Settings) -> Verdict:
    """The space where the home is."""
    free_mb = shutil.disk_usage(_nearest_folder(settings.home)).free // 1_000_000
    found = f"{free_mb} MB free at {settings.home}"
    if free_mb < DISK_NEEDED_MB:
        return Verdict("disk", FAILED, found, f"At least {DISK_NEEDED_MB} MB are needed; make room")
    if free_mb < DISK_WANTED_MB:
        return Verdict("disk", WARNING, found, "PostgreSQL stops when it is full; make room")
    return Verdict("disk", OK, found)


def ports(settings: Settings) -> Iterator[Verdict]:
    """Whether each service's port is free, or held by our service."""
    from orderflow.local.errors import LocalError
    from orderflow.local.ports import require_free

    state = running_state(settings)
    held = {process.address: process for process in state.processes} if state else {}
    for service in service_names():
        check, port = f"port of {service}", settings.service_port(service)
        own = held.get(f"http://{settings.host}:{port}")
        setting = f"ORDERFLOW_{service.upper()}_PORT"
        if settings.given_url(service) is not None:
            yield Verdict(check, SKIPPED, "the service is elsewhere")
        elif own is not None:
            yield Verdict(check, OK, f"{port} is held by our {own.name} (process {own.pid})")
        elif port == 0 or _answers_as_ours(settings, service):
            yield Verdict(check, OK, "any free one" if port == 0 else f"{port} is held by a service of Orderflow")
        else:
            try:
                require_free(port, service, setting, settings.host)
                yield Verdict(check, OK, f"{port} is free")
            except LocalError as error:
                yield Verdict(check, FAILED, str(error), f"Stop that program, or set {setting} to another port")


def _answers_as_ours(settings: Settings, service: str) -> bool:
    """A service of Orderflow, and where the home knows whose it is, of the same installation."""
    from orderflow.cli.errors import CliError
    from orderflow.cli.running import client_of

    try:
        with client_of(settings, service, timeout_s=ANSWER_TIMEOUT_S) as client:
            return "alive" in client.get("/health/live")
    except (CliError, TypeError):
        return False


def _nearest_folder(path: Path) -> Path:
    return next((each for each in (path, *path.parents) if each.is_dir()), Path("/"))


def _problem_of(requirement: str) -> str:
    parts = REQUIREMENT.match(requirement)
    marker = parts[3] or "" if parts else ""
    if parts is None or "extra" in marker or ("Windows" in marker and sys.platform == "win32"):
        return ""
    name, wanted = parts[1], parts[2] or "0"
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is not installed"
    return "" if _numbers(found) >= _numbers(wanted) else f"{name} is {found}, wanted {wanted} or newer"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version.split("+", maxsplit=1)[0])[:3]]
