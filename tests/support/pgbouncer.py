"""A real PgBouncer before the tests' PostgreSQL, where the machine has one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orderflow.local.processes import free_port
from tests.support.postgres import SUPERUSER, UNPRIVILEGED

START_TIMEOUT_S = 120.0


def missing() -> str | None:
    """Why there is none."""
    return None if _program() else "pgbouncer is not installed on this machine"


@contextmanager
def pgbouncer(port: int, pool_mode: str, *more: str) -> Iterator[int]:
    """The port of a pooler before the server at `port`: the default configuration, but for the mode and `more`."""
    home = Path(tempfile.mkdtemp(prefix="orderflow-bouncer-"))
    listening = free_port()
    configuration = home / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n* = host=127.0.0.1 port={port} user={SUPERUSER}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {listening}\nauth_type = any\nunix_socket_dir =\n"
        f"pool_mode = {pool_mode}\nlogfile = {home / 'log'}\n" + "\n".join(more)
    )
    identity = {"user": UNPRIVILEGED, "group": UNPRIVILEGED} if os.geteuid() == 0 else {}
    if identity:
        os.chown(home, UNPRIVILEGED, UNPRIVILEGED)
    process = subprocess.Popen([str(_program()), "-q", str(configuration)], **identity)  # type: ignore[call-overload]
    try:
        _wait_for(listening, process)
        yield listening
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _program() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"pgbouncer did not start: {process.poll()}")
