"""The one folder in which everything of a run lives, and what it remembers: passwords, identity, event log."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from uuid import UUID

from orderflow.local.errors import LocalError

if TYPE_CHECKING:
    from orderflow.settings import Settings

FORMAT = 1
HARMLESS = frozenset({"orderflow.toml", "up.lock", "lost+found", ".gitkeep", ".gitignore"})
SPACE_NEEDED_MB = 200
FULL_BELOW_MB = 32
"""PostgreSQL stops when it finds no room for one more segment of its log, which has 16 MiB."""
SOCKET_PORT = 5432
WHO_MAX = 200


@dataclass(frozen=True, slots=True)
class EventLog:
    """Where the events of a home are kept: in "postgres", or "kafka" with our own broker or one at `bootstrap`.

    Our own one may be `secure`: it wants a password of everybody, and each has its own rights.
    """

    transport: str
    bootstrap: str | None = None
    secure: bool = False

    @property
    def own_broker(self) -> bool:
        return self.transport == "kafka" and self.bootstrap is None

    def __str__(self) -> str:
        if self.transport != "kafka":
            return "the log in PostgreSQL"
        if self.bootstrap:
            return f"Kafka at {self.bootstrap}"
        return "a local Kafka with passwords and rights" if self.secure else "a local Kafka"

    def holds_what(self, other: EventLog) -> bool:
        """Whether the events of the other are here too: our own broker keeps them, whoever may come to it."""
        return replace(self, secure=False) == replace(other, secure=False)


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
        make_folder(home.path, mode=passable())
        require_writable(home.path)
        if not home.exists():
            strangers = sorted(entry.name for entry in home.path.iterdir() if entry.name not in HARMLESS)
            if strangers:
                raise LocalError(
                    f"{home.path} is not a home of Orderflow: it holds {', '.join(strangers[:3])}; "
                    "choose an empty or a new folder"
                )
            require_room(home.path)
            home._remember({"format": FORMAT})
        elif (found := home._recall().get("format")) != FORMAT:
            raise LocalError(f"{home.path} was made by another release (format {found}, this one knows {FORMAT})")
        make_folder(home.logs)
        return home

    def exists(self) -> bool:
        return self.marker.is_file()

    def event_log(self) -> EventLog | None:
        """What this home ran on last; None before the first time. Raises LocalError."""
        found = self._recall()
        noted = found.get("event_log", found.get("carrier"))  # release 0.1.0 wrote "carrier"
        if not isinstance(noted, dict):
            return None
        return EventLog(str(noted.get("transport")), noted.get("bootstrap"), bool(noted.get("secure")))

    def remember_event_log(self, event_log: EventLog, broker: str | None = None) -> None:
        """`broker` is where our own one stands."""
        self._remember({**self._recall(), "event_log": asdict(event_log), "broker": broker})

    def installation(self) -> UUID | None:
        """Whose data this home holds; None before the first time. Raises LocalError."""
        noted = self._recall().get("installation")
        try:
            return None if noted is None else UUID(str(noted))
        except ValueError as error:
            raise LocalError(f"{self.marker} is damaged: {noted!r} is not an installation id") from error

    def remember_installation(self, installation: UUID) -> None:
        if self.installation() != installation:
            self._remember({**self._recall(), "installation": str(installation)})

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held by the one supervisor of a home, given back by the system when it dies. Raises LocalError."""
        with self.lock_file.open("a+b") as file:
            if not _try_lock(file.fileno()):
                raise LocalError(
                    f"Orderflow is already running on {self.path}: see it with `orderflow status`, stop it with "
                    "`orderflow down`"
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


def make_folder(path: Path, *, mode: int = 0o700) -> bool:
    """Make a folder and its parents where missing; says whether it did. Raises LocalError."""
    if path.is_dir():
        return False
    try:
        missing = [step for step in (path, *path.parents) if not step.exists()]
        for step in reversed(missing):
            step.mkdir()
            # Not by the mask of whoever runs us: PostgreSQL may have to pass as another user.
            step.chmod(mode)
    except OSError as error:
        raise LocalError(f"cannot create the folder {path}: {error.strerror or error}") from error
    return True


def require_writable(path: Path) -> None:
    """Raises LocalError when we have no right to write there."""
    if not os.access(path, os.W_OK | os.X_OK):
        raise LocalError(f"cannot write to {path}; choose another folder with --home or ORDERFLOW_HOME")


def require_room(path: Path) -> None:
    """Raises LocalError when there is too little for new data; what is there already starts with less."""
    free_mb = shutil.disk_usage(path).free // 1_000_000
    if free_mb < SPACE_NEEDED_MB:
        raise LocalError(
            f"the disk that holds {path} is full: {free_mb} MB free, and at least {SPACE_NEEDED_MB} MB are needed"
        )


def full_disk(path: Path) -> str:
    """One sentence when the disk that holds this folder is full; else nothing."""
    try:
        free_mb = shutil.disk_usage(path).free // 1_000_000
    except OSError:
        return ""
    if free_mb >= FULL_BELOW_MB:
        return ""
    return (
        f"the disk that holds {path} is full: {free_mb} MB free; free some space, and what stopped comes back "
        "by itself within about 10 s"
    )


def passable() -> int:
    """The mode of folders on the way to PostgreSQL's data: as root, it passes them as another user."""
    return 0o711 if os.name == "posix" and os.geteuid() == 0 else 0o700


class SecretsFile:
    """A JSON object of names and passwords, mode 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def require(self) -> None:
        """Raises LocalError when the file is gone though there is data that needs it."""
        if not self.path.is_file():
            raise LocalError(
                f"{self.path} with the passwords of the databases is missing, though their data is there; "
                "put it back, or delete the data with: orderflow reset"
            )

    def password(self, name: str, size: int = 24) -> str:
        """The password called `name`; made of `size` random bytes and stored at first use. Raises LocalError."""
        known = self._load()
        if name not in known:
            import secrets

            known[name] = secrets.token_urlsafe(size)
            self._store(known)
        return known[name]

    def _load(self) -> dict[str, str]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise LocalError(f"the passwords in {self.path} cannot be read: {error}") from error
        if not isinstance(found, dict):
            raise LocalError(f"{self.path} does not hold passwords; it was changed by hand or is damaged")
        return {str(name): str(value) for name, value in found.items()}

    def _store(self, known: dict[str, str]) -> None:
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(known, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except OSError as error:
            raise LocalError(f"cannot write {self.path}: {error.strerror or error}") from error


def database_url(where: str, database: str, user: str, password: str) -> str:
    """`where` is HOST:PORT or the folder of a Unix socket."""
    credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
    if not where.startswith("/"):
        return f"postgresql://{credentials}@{where}/{quote(database)}"
    socket = urlencode({"host": where, "port": SOCKET_PORT})
    return f"postgresql://{credentials}@/{quote(database)}?{socket}"


def database_name(name: str) -> str:
    """Of a service, of the log or of the bank; its owner role has the same name."""
    return f"orderflow_{name}"


def authority_of(home: Path) -> Path:
    """The folder of the home's own certificate authority."""
    return home / "authority"


def kafka_password(home: Path, user: str) -> str:
    """Of a user of our own broker; made at first use. Raises LocalError."""
    return secrets_of(home).password(f"kafka_{user}")


def secrets_of(home: Path) -> SecretsFile:
    """The passwords of a home's roles."""
    return SecretsFile(home / "secrets.json")


def own_token(settings: Settings) -> str | None:
    """That of the settings, else the one of their home; None where there is neither."""
    return settings.token.reveal() if settings.token is not None else home_token(settings.home)


def person_here() -> str:
    """Who sits at this machine, for the operators' log: user@host, in ASCII."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    name = f"{user}@{socket.gethostname()}"
    return name.encode("ascii", "backslashreplace").decode()[:WHO_MAX]


def home_token(home: Path) -> str | None:
    """The token that `up` has made for whoever owns this home; None where there is none."""
    try:
        return (home / "token").read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None
