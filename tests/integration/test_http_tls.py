"""HTTP over TLS, with real sockets: certificates that change, clients that stand still or have no certificate."""

from __future__ import annotations

import asyncio
import inspect
import random
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from orderflow.http.application import Application, ApplicationState
from orderflow.http.operation import Operation, Reply, Request, Response
from orderflow.http.protocol import HttpLimits
from orderflow.http.server import HttpServer, listen
from orderflow.http.tls import CertificateError, Certificates, TlsFiles
from orderflow.local import authority as local_authority
from orderflow.local.authority import CERTIFICATE_DAYS, Authority, Issued
from tests.support.frame import open_gate
from tests.support.waiting import eventually, interrupted

LONG = "x" * 200_000
GET = b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n"


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test on the standard loop and on the one that services run on, whose TLS is another."""

    def run(loop: str, **fixtures: Any) -> None:
        factory = asyncio.SelectorEventLoop if loop == "asyncio" else pytest.importorskip("uvloop").new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(test(**fixtures))

    given = inspect.signature(test)
    loop = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = given.replace(parameters=[*given.parameters.values(), loop])  # type: ignore[attr-defined]  # functions have it
    run.__name__ = test.__name__
    made: Callable[..., None] = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])(run)
    return made


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> TlsFiles:
    """Copies, which a test may replace."""
    return placed(authority.issue("server"), tmp_path)


def placed(issued: Issued, folder: Path) -> TlsFiles:
    shutil.copy(issued.certificate, folder / "tls.pem")
    shutil.copy(issued.key, folder / "tls.key")
    return TlsFiles(certificate=folder / "tls.pem", key=folder / "tls.key")


@asynccontextmanager
async def served(files: TlsFiles, limits: HttpLimits | None = None) -> AsyncIterator[HttpServer]:
    async def plain(_: Request[None]) -> Reply:
        return Reply(body={"said": LONG})

    answers = [Response(status=200, description="Said", type=dict[str, str])]
    operations = [Operation(method="GET", path="/plain", summary="Say", handler=plain, responses=answers)]
    application = Application(operations, ApplicationState(rng=random.Random(1)))
    listener = listen("127.0.0.1", 0)
    server = HttpServer(lambda: application, open_gate(), listener, limits, Certificates(files))
    server.start()
    try:
        yield server
    finally:
        await server.stop(5)
        listener.close()


def trusting(authority: Authority, client: Issued | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


class Talk:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, *parts: bytes) -> bytes:
        for part in parts or (GET,):
            self.writer.write(part)
        async with asyncio.timeout(30):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length")
            )
            await self.reader.readexactly(length)
            return head.split(b"\r\n")[0]

    def serial(self) -> str:
        found: str = self.writer.get_extra_info("peercert")["serialNumber"]
        return found


async def connect(server: HttpServer, context: ssl.SSLContext) -> Talk:
    async with asyncio.timeout(30):
        return Talk(
            *await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname="localhost")
        )


@on_each_loop
async def test_a_request_is_answered_and_the_connection_goes_on(authority: Authority, files: TlsFiles) -> None:
    async with served(files) as server:
        talk = await connect(server, trusting(authority))
        assert await talk.ask() == b"HTTP/1.1 200 OK"
        assert await talk.ask(GET[:10], GET[10:]) == b"HTTP/1.1 200 OK"
        assert server.connections == 1
        talk.writer.close()
        await eventually(lambda: server.connections == 0)


@on_each_loop
async def test_whoever_does_not_trust_the_authority_gets_no_connection(files: TlsFiles) -> None:
    async with served(files) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(server, ssl.create_default_context())
        await eventually(lambda: server.connections == 0)


@on_each_loop
async def test_plain_http_and_old_tls_get_nothing(authority: Authority, files: TlsFiles) -> None:
    old = trusting(authority)
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with served(files) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(server, old)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        async with asyncio.timeout(30):
            answer = await reader.read()
        assert b"HTTP/1.1" not in answer
        writer.close()
        await eventually(lambda: server.connections == 0)


@on_each_loop
async def test_a_client_that_never_shakes_hands_takes_a_place_and_is_ended(files: TlsFiles) -> None:
    limits = HttpLimits(handshake_s=0.5)
    async with served(files, limits) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await eventually(lambda: server.connections == 1)
        async with asyncio.timeout(30):
            # An abort may be a reset.
            with suppress(ConnectionError):
                assert await reader.read() == b""
        await eventually(lambda: server.connections == 0)
        writer.close()


@on_each_loop
async def test_those_who_never_shake_hands_make_room_for_those_who_do(authority: Authority, files: TlsFiles) -> None:
    async with served(files, HttpLimits(connections_max=4, spare=1)) as server:
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(12)]
        talk = await connect(server, trusting(authority))
        assert await talk.ask() == b"HTTP/1.1 200 OK"
        assert server.connections <= 5
        for _, writer in (*idle, (None, talk.writer)):
            writer.close()


@on_each_loop
async def test_new_certificates_are_used_without_dropping_a_connection(
    authority: Authority, files: TlsFiles, tmp_path: Path
) -> None:
    async with served(files, HttpLimits(handshake_s=4)) as server:
        before = await connect(server, trusting(authority))
        placed(authority.issue("another"), tmp_path)

        async def changed() -> bool:
            talk = await connect(server, trusting(authority))
            talk.writer.close()
            return talk.serial() != before.serial()

        await eventually(changed)
        assert await before.ask() == b"HTTP/1.1 200 OK"
        before.writer.close()


@on_each_loop
async def test_files_that_do_not_fit_together_change_nothing_and_are_told(
    authority: Authority, files: TlsFiles, tmp_path: Path
) -> None:
    certificates = Certificates(files)
    context = certificates.context
    shutil.copy(authority.issue("another").certificate, files.certificate)
    certificates.refresh()
    assert certificates.context is context
    assert "are not a certificate with its key" in certificates.problem
    assert "the previous certificate is still in use" in certificates.problem
    placed(authority.issue("another"), tmp_path)
    certificates.refresh()
    assert certificates.problem == ""
    assert certificates.context is not context


@on_each_loop
async def test_with_an_authority_of_clients_nobody_gets_in_without_a_certificate_of_it(
    authority: Authority, files: TlsFiles, tmp_path: Path
) -> None:
    strangers = Authority(tmp_path / "strangers")
    known = TlsFiles(certificate=files.certificate, key=files.key, client_ca=authority.certificate)
    async with served(known) as server:
        talk = await connect(server, trusting(authority, authority.issue("operator")))
        assert await talk.ask() == b"HTTP/1.1 200 OK"
        talk.writer.close()
        for client in (None, strangers.issue("operator")):
            # With TLS 1.3 the client hears of it with its first answer.
            refused = await connect(server, trusting(authority, client))
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await refused.ask()
            refused.writer.close()
        await eventually(lambda: server.connections == 0)


@pytest.mark.parametrize("turns", range(6))
@on_each_loop
async def test_who_comes_while_a_server_stops_is_sent_away(authority: Authority, files: TlsFiles, turns: int) -> None:
    """However far its way in had come: `turns` of the event loop."""
    async with served(files) as server:
        talk = await connect(server, trusting(authority))
        talk.writer.close()
        visitor = socket.create_connection(("127.0.0.1", server.port))
        for _ in range(turns):
            await asyncio.sleep(0)
    await ends(visitor)


@on_each_loop
async def test_a_stop_that_is_interrupted_leaves_nobody_connected(authority: Authority, files: TlsFiles) -> None:
    async with served(files, HttpLimits(head_s=600)) as server:
        talk = await connect(server, trusting(authority))
        talk.writer.write(GET[:10])
        # What was sent before is read before.
        other = await connect(server, trusting(authority))
        assert await other.ask() == b"HTTP/1.1 200 OK"

        await interrupted(server.stop(30))

        await eventually(lambda: server.connections == 0)
        for each in (talk, other):
            each.writer.close()


async def ends(visitor: socket.socket) -> None:
    """It is closed, or reset, by the other end."""
    with visitor, suppress(ConnectionError):
        visitor.setblocking(False)
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(visitor, 1), 30) == b""


@pytest.mark.parametrize(
    ("days_left", "told"),
    [
        (CERTIFICATE_DAYS, ""),
        (15, ""),
        (13.5, "tls.pem ends at .*, in 13 days. Put its successor into that file"),
        (1.5, "in less than two days"),
        (-0.1, "tls.pem ended at .*: clients that verify it no longer connect. Put"),
    ],
)
def test_a_certificate_that_ends_soon_says_so(days_left: float, told: str, files: TlsFiles) -> None:
    certificates = Certificates(files)
    said = certificates.expiry(certificates.until_s - days_left * 86_400)
    assert bool(said) == bool(told)
    assert re.search(told, said)


def test_one_that_lives_shortly_has_a_third_of_its_life_to_be_replaced(
    files: TlsFiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local_authority, "CERTIFICATE_DAYS", 6)
    certificates = Certificates(placed(Authority(tmp_path / "another").issue("server"), tmp_path))
    assert certificates.expiry(certificates.until_s - 2.5 * 86_400) == ""
    assert "in less than two days" in certificates.expiry(certificates.until_s - 1.9 * 86_400)


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda files: files.key.unlink(), "tls.key cannot be read: No such file"),
        (lambda files: files.certificate.write_text("no PEM"), "are not a certificate with its key, both in PEM"),
        (lambda files: shutil.copy(files.certificate, files.key), "are not a certificate with its key, both in PEM"),
    ],
)
def test_what_is_wrong_with_the_files_is_one_sentence(
    break_it: Callable[[TlsFiles], object], sentence: str, files: TlsFiles
) -> None:
    break_it(files)
    with pytest.raises(CertificateError) as caught:
        Certificates(files)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
