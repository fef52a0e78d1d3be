"""PostgreSQL over TLS: a front for the tests' own server, whose build has no OpenSSL, and a server that has it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import ssl
import struct
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from orderflow.local.authority import Issued
from orderflow.local.processes import free_port
from tests.support.postgres import SUPERUSER, UNPRIVILEGED

SSL_REQUEST = 80877103
"""PostgreSQL, 54.2.10: what a client sends first when it wants TLS."""


class TlsFront:
    """Takes TLS off, and passes everything on to the server at `behind`. Whoever does not want TLS is sent away.

    `client_ca`: who comes needs a certificate of it.
    """

    def __init__(self, behind: int, issued: Issued, client_ca: Path | None = None) -> None:
        self.port = 0
        self.secured = 0
        self.plain = 0
        self._behind = behind
        self._tasks: set[asyncio.Task[None]] = set()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(issued.certificate, issued.key)
        if client_ca is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(client_ca)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[TlsFront]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, url: str, **options: object) -> str:
        """The server's URL, by way of this front."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"{url.replace(f':{self._behind}/', f':{self.port}/')}?{query}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            _, code = struct.unpack("!II", await reader.readexactly(8))
            if code != SSL_REQUEST:
                self.plain += 1
                return
            writer.write(b"S")
            await writer.start_tls(self._context)
            self.secured += 1
            there = await asyncio.open_connection("127.0.0.1", self._behind)
            ends = [asyncio.ensure_future(_pass(reader, there[1])), asyncio.ensure_future(_pass(there[0], writer))]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
                await asyncio.gather(*ends, return_exceptions=True)
                there[1].close()
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def binaries() -> Path | None:
    """Of a PostgreSQL of this machine that has OpenSSL; None when there is none."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        found = subprocess.run(["ldd", folder / "postgres"], capture_output=True, text=True)
        if "libssl" in found.stdout:
            return folder
    return None


@contextmanager
def server_with_openssl(folder: Path, issued: Issued, client_ca: Path) -> Iterator[int]:
    """The port of one that speaks TLS only. Its user `certified` needs a certificate of that name."""
    home = Path(tempfile.mkdtemp(prefix="orderflow-pg-tls-"))
    data = home / "data"
    data.mkdir(mode=0o700)
    is_root = os.name == "posix" and os.geteuid() == 0
    identity = {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []} if is_root else {}
    if is_root:
        os.chown(home, UNPRIVILEGED, UNPRIVILEGED)
        os.chown(data, UNPRIVILEGED, UNPRIVILEGED)
    made = [str(folder / "initdb"), "-D", str(data), "-U", SUPERUSER, "--auth=trust", "--no-sync"]
    subprocess.run(made, check=True, capture_output=True, **identity)  # type: ignore[call-overload]
    for name, source in (("server.crt", issued.certificate), ("server.key", issued.key), ("root.crt", client_ca)):
        shutil.copy(source, data / name)
        (data / name).chmod(0o600)
        if is_root:
            os.chown(data / name, UNPRIVILEGED, UNPRIVILEGED)
    rules = "hostssl all certified 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 trust\n"
    (data / "pg_hba.conf").write_text(rules)
    port = free_port()
    options = {"ssl": "on", "ssl_ca_file": "root.crt", "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
    command = [
        str(folder / "postgres"),
        "-D",
        str(data),
        f"--port={port}",
        *(f"--{k}={v}" for k, v in options.items()),
    ]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, cwd=home, **identity)  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + 60
        ready = [str(folder / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
        while subprocess.run(ready, capture_output=True).returncode:
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline, (home / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)
