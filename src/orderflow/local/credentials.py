"""What a deployment in containers needs and nobody should think up: passwords, certificates and the first tokens.

A file each, so that a container is given those alone that it needs (`compose.yaml`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from orderflow.access.tokens import TokenRefusedError, TokensFile, TokensFileError
from orderflow.core.access import Role
from orderflow.local.authority import THIS_MACHINE, Authority, utc_now
from orderflow.local.errors import LocalError
from orderflow.local.home import make_folder
from orderflow.local.kafka import OWNER, OwnersListener, container_properties
from orderflow.local.services import databases
from orderflow.registry import service_names

ROLES: Final = {
    "operator": (frozenset({Role.VIEWER, Role.OPERATOR, Role.APPROVER}), None),
    "shop": (frozenset({Role.SHOP}), "shop"),
    "prometheus": (frozenset({Role.VIEWER}), None),
}
ADMIN = """\
security.protocol=ssl
ssl.ca.location=/run/secrets/ca.pem
ssl.certificate.location=/run/secrets/kafka_certificate
ssl.key.location=/run/secrets/kafka_key
"""
WRITABLE, READABLE = 0o644, 0o444
"""Behind a folder that its owner alone passes; the users of containers differ from that owner."""


def make_credentials(folder: Path, hosts: Sequence[str] = (), now: Callable[[], datetime] = utc_now) -> list[Path]:
    """Make what is missing, and certificates anew that end soon; the files that were made. `hosts` are names by which
    services are reached besides.

    Raises LocalError.
    """
    make_folder(folder)
    before = _contents(folder)
    try:
        for name in _passwords():
            _keep(folder / name, secrets.token_urlsafe(24))
        _certificates(folder, hosts, Authority(folder / "authority", now))
        _tokens(folder)
        _keep(folder / "compose.env", _environment(folder))
    except (OSError, TokensFileError, TokenRefusedError) as error:
        raise LocalError(f"the files in {folder} cannot be made: {error}") from error
    return sorted(path for path, content in _contents(folder).items() if before.get(path) != content)


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _passwords() -> list[str]:
    return [
        "postgres_password",
        "grafana_password",
        *(f"{name}_database_password" for name in databases()),
        *(f"{name}_kafka_password" for name in ("operator", *service_names())),
    ]


def _certificates(folder: Path, hosts: Sequence[str], authority: Authority) -> None:
    issued = {
        "services": authority.issue("services", (*THIS_MACHINE, *service_names(), *hosts)),
        "postgres": authority.issue("postgres", (*THIS_MACHINE, "postgres")),
        "kafka": authority.issue(OWNER, (*THIS_MACHINE, "kafka")),
    }
    _keep(folder / "ca.pem", authority.certificate.read_text("ascii"))
    for name, each in issued.items():
        _write(folder / f"{name}.pem", each.certificate.read_text("ascii"))
        _write(folder / f"{name}.key", each.key.read_text("ascii"))
    _write(folder / "kafka.both.pem", issued["kafka"].both.read_text("ascii"))
    mounted = Path("/run/secrets")
    owners = OwnersListener(9094, issued["kafka"], mounted / "ca.pem")
    _keep(folder / "kafka_admin.properties", ADMIN)
    _keep(folder / "kafka.properties", container_properties("kafka", owners, mounted / "kafka.both.pem"))


def _tokens(folder: Path) -> None:
    make_folder(folder / "tokens")
    file = TokensFile(folder / "tokens" / "tokens.json")
    for name, (roles, shop) in ROLES.items():
        if not (folder / f"{name}.token").exists():
            _, text = file.create(name, roles, shop=shop)
            _keep(folder / f"{name}.token", text)


def _environment(folder: Path) -> str:
    """For `docker compose --env-file`: services run as whoever owns these files."""
    user = f"{os.getuid()}:{os.getgid()}" if os.name == "posix" else "10001:10001"
    return f"ORDERFLOW_USER={user}\nORDERFLOW_CREDENTIALS={folder.absolute()}\nKAFKA_CLUSTER={uuid4()}\n"


def _keep(path: Path, content: str) -> None:
    """Written once."""
    if not path.exists():
        _write(path, content if content.endswith("\n") else f"{content}\n")


def _write(path: Path, content: str) -> None:
    """In place: a container goes on seeing the file that it was given, and no other of that name."""
    if path.exists():
        if path.read_text("utf-8") == content:
            return
        path.chmod(WRITABLE)
    path.write_text(content, encoding="utf-8")
    path.chmod(READABLE)
