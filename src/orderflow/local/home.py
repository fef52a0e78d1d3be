"""The one folder in which everything of a run lives."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from orderflow.local import folders
from orderflow.local.errors import LocalError

FORMAT = 1
HARMLESS = frozenset({"orderflow.toml", "up.lock", "lost+found", ".gitkeep", ".gitignore"})


@dataclass(frozen=True, slots=True)
class Carrier:
    """What carries the events of a home: "postgres", or "kafka" with our own broker or one at `bootstrap`."""

    transport: str
    bootstrap: str | None = None

    @property
    def own_broker(self) -> bool:
        return self.transport == "kafka" and self.bootstrap is None

    def __str__(self) -> str:
        if self.transport != "kafka":
            return "the log in PostgreSQL"
        return f"Kafka at {self.bootstrap}" if self.bootstrap else "a local Kafka"


class Home:
    """Paths of a home and what it remembers. `open` makes it where it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.state = self.path / "state.json"
        self.marker = self.path / "home.json"
        self.lock_file = self.path / "up.lock"

    @classmethod
    def open(cls, path: Path) -> Home:
        """Make the folder, or check that it is ours or empty. Raises LocalError."""
        home = cls(path)
        if home.path.exists() and not home.path.is_dir():
            raise LocalError(f"{home.path} is a file; choose another home with --home or ORDERFLOW_HOME")
        folders.make(home.path, mode=folders.passable())
        folders.require_writable(home.path)
        if not home.exists():
            strangers = sorted(entry.name for entry in home.path.iterdir() if entry.name not in HARMLESS)
            if strangers:
                raise LocalError(
                    f"{home.path} is not a home of Orderflow: it holds {', '.join(strangers[:3])}; "
                    "choose an empty or a new folder"
                )
            folders.require_room(home.path)
            home._remember({"format": FORMAT})
        elif (found := home._recall().get("format")) != FORMAT:
            raise LocalError(f"{home.path} was made by another release (format {found}, this one knows {FORMAT})")
        folders.make(home.logs)
        return home

    def exists(self) -> bool:
        return self.marker.is_file()

    def carrier(self) -> Carrier | None:
        """What this home ran on last; None before the first time. Raises LocalError."""
        noted = self._recall().get("carrier")
        if not isinstance(noted, dict):
            return None
        return Carrier(str(noted.get("transport")), noted.get("bootstrap"))

    def remember_carrier(self, carrier: Carrier, broker: str | None = None) -> None:
        """`broker` is where our own one stands."""
        self._remember({**self._recall(), "carrier": asdict(carrier), "broker": broker})

    def installation(self) -> UUID | None:
        """Whose data this home holds; None before the first time. Raises LocalError."""
        noted = self._recall().get("installation")
        try:
            return None if noted is None else UUID(str(noted))
        except ValueError as error:
            raise LocalError(f"{self.marker} is damaged: {noted!r} is no installation's id") from error

    def remember_installation(self, installation: UUID) -> None:
        if self.installation() != installation:
            self._remember({**self._recall(), "installation": str(installation)})

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held by the one supervisor of a home, given back by the system when it dies. Raises LocalError."""
        with self.lock_file.open("a+b") as file:
            if not _try_lock(file.fileno()):
                raise LocalError(
                    f"Orderflow runs on {self.path} already: `orderflow status` shows it, `orderflow down` stops it"
                )
            yield

    def is_locked(self) -> bool:
        """Whether a supervisor holds it at this moment."""
        try:
            with self.lock_file.open("r+b") as file:
                return not _try_lock(file.fileno())
        except OSError:
            return False

    def _recall(self) -> dict[str, Any]:
        try:
            found = json.loads(self.marker.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise LocalError(f"{self.marker} cannot be read: {error}") from error
        if not isinstance(found, dict):
            raise LocalError(f"{self.marker} is damaged")
        return found

    def _remember(self, content: dict[str, Any]) -> None:
        write_json(self.marker, content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a file in one step, so that a reader sees the old one or the new one. Raises LocalError."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        fresh.write_text(json.dumps(content, indent=1), encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror or error}") from error


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
