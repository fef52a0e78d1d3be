"""TLS for HTTP: certificates from files that may change, and the handshake as a state of a connection (RFC 8446)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from orderflow.http.protocol import Connection, Serving

ACCEPT_AGAIN_S = 0.1
DAY_S = 86_400
EXPIRES_SOON_S = 14 * DAY_S
Mark = tuple[tuple[int, int, int], ...]


class CertificateError(Exception):
    """A file cannot be used. Its text is fit to be shown to a user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: the certificate with its chain, its key, and the authorities that clients need a certificate of."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        yield from (each for each in (self.certificate, self.key, self.client_ca) if each is not None)


class Certificates:
    """What the files hold. `refresh` reads them again when they have changed; connections that stand stay so.

    `problem` is why what is in the files now is not used. What is used ends at `until_s` (Unix time). Raises
    CertificateError at first.
    """

    def __init__(self, files: TlsFiles) -> None:
        self.context = context_of(files)
        self.problem = ""
        self._from_s, self.until_s = validity_of(files.certificate)
        self._files = files
        self._mark = _mark_of(files)

    def expiry(self, now_s: float) -> str:
        """That the certificate ends soon, or has ended, and what to do; empty while there is time.

        Soon is EXPIRES_SOON_S before, or when two thirds of its life are over, if it lives shortly.
        """
        left_s = self.until_s - now_s
        if left_s > min(EXPIRES_SOON_S, (self.until_s - self._from_s) / 3):
            return ""
        certificate, key = self._files.certificate, self._files.key
        until = datetime.fromtimestamp(self.until_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
        days = int(left_s // DAY_S)
        how_long = f"{days} days" if days > 1 else "less than two days"
        ends = (
            f"ends at {until}, in {how_long}"
            if left_s > 0
            else f"ended at {until}: clients that verify it no longer connect"
        )
        return (
            f"{certificate} {ends}. Put its successor into that file and the successor's key into {key}: both are "
            "read again when they change"
        )

    def refresh(self) -> None:
        """Files that do not fit together, as while they are being replaced, change nothing."""
        mark = _mark_of(self._files)
        if mark == self._mark:
            return
        try:
            context, validity = context_of(self._files), validity_of(self._files.certificate)
        except CertificateError as error:
            self.problem = f"{error}; the previous certificate is still in use"
        else:
            self.problem = ""
            self.context = context
            self._from_s, self.until_s = validity
            self._mark = mark


def context_of(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 or later. Raises CertificateError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    for path in files:
        try:
            path.read_bytes()
        except OSError as error:
            raise CertificateError(f"{path} cannot be read: {error.strerror}") from error
    try:
        # A key with a password would ask for it on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (ssl.SSLError, _EncryptedError) as error:
        why = "the key has a password" if isinstance(error, _EncryptedError) else _reason(error)
        raise CertificateError(
            f"{files.certificate} and {files.key} are not a certificate with its key, both in PEM: {why}"
        ) from error
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(files.client_ca)
        except ssl.SSLError as error:
            raise CertificateError(f"{files.client_ca} holds no certificates in PEM: {_reason(error)}") from error
    return context


def validity_of(chain: Path) -> tuple[float, float]:
    """From when and until when the certificate counts that ends first, in Unix time. Raises CertificateError."""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        found = load_pem_x509_certificates(chain.read_bytes())
    except (OSError, ValueError) as error:
        raise CertificateError(f"{chain} cannot be read as certificates in PEM: {error}") from error
    first = min(found, key=lambda each: each.not_valid_after_utc)
    return first.not_valid_before_utc.timestamp(), first.not_valid_after_utc.timestamp()


class _EncryptedError(Exception):
    """The key is encrypted."""


def _no_password() -> str:
    raise _EncryptedError


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def _mark_of(files: TlsFiles) -> Mark:
    """Changes whenever one of the files does."""
    marks = []
    for path in files:
        try:
            found = os.stat(path)
            marks.append((found.st_ino, found.st_mtime_ns, found.st_size))
        except OSError:
            marks.append((0, 0, 0))
    return tuple(marks)


class Handshake:
    """A connection until TLS stands. It takes a place like any other, and has its time; then it is a `Connection`."""

    def __init__(self, serving: Serving, accepted: socket.socket) -> None:
        self.deadline = serving.now() + serving.limits.handshake_s
        self.is_spare = False
        self._serving = serving
        self._accepted = accepted
        serving.connections.enter(self)

    async def secure(self, context: ssl.SSLContext) -> None:
        """Return when it is a connection, or when it cannot become one.

        To be ended by `abort`: of what is cancelled here before its first step nobody closes the socket.
        """
        limits = self._serving.limits
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: _Secured(self._serving, self),
                self._accepted,
                ssl=context,
                # The deadline of this state is the one that counts; this is so that nothing is left behind.
                ssl_handshake_timeout=2 * limits.handshake_s,
                ssl_shutdown_timeout=limits.linger_s,
            )
        except (OSError, ssl.SSLError, TimeoutError):
            self._accepted.close()
        finally:
            self.leave()

    def leave(self) -> None:
        self._serving.connections.leave(self)

    def expire(self) -> None:
        self._serving.application().timed_out("handshake")
        self.abort()

    def evict(self) -> None:
        self.abort()

    def shut_down(self) -> None:
        self.abort()

    def abort(self) -> None:
        """Whoever waits for bytes of the client gets its end instead."""
        with contextlib.suppress(OSError):
            self._accepted.shutdown(socket.SHUT_RDWR)


class _Secured(Connection):
    """Takes over the place of its handshake."""

    def __init__(self, serving: Serving, handshake: Handshake) -> None:
        super().__init__(serving)
        self._handshake = handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._handshake.leave()
        super().connection_made(transport)


class TlsListener:
    """Accepts from a socket. A server of the event loop tells of a connection when TLS stands, which may be never:
    nobody could count it before, or end it.
    """

    def __init__(self, serving: Serving, listener: socket.socket, certificates: Certificates) -> None:
        self._serving = serving
        self._listener = listener
        self._certificates = certificates
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self._accepting: asyncio.Task[None] | None = None
        try:
            self._open()
        except NotImplementedError:
            # The standard event loop of Windows. What comes while it is closed may be left open there.
            self._accepting = self._loop.create_task(self._accept_each())

    def close(self) -> None:
        """Accept nobody any more."""
        if self._accepting is not None:
            self._accepting.cancel()
            return
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._listener)

    def _open(self) -> None:
        self._again = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        """At once and in one piece: between two turns of the loop there is nobody who is accepted and not counted."""
        try:
            accepted, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # Gone again, or no file is left for it: others have to end first.
            self._loop.remove_reader(self._listener)
            self._again = self._loop.call_later(ACCEPT_AGAIN_S, self._open)
        else:
            self._admit(accepted)

    async def _accept_each(self) -> None:
        while True:
            try:
                accepted, _ = await self._loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(ACCEPT_AGAIN_S)
            else:
                self._admit(accepted)

    def _admit(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        handshake = Handshake(self._serving, accepted)
        task = self._loop.create_task(handshake.secure(self._certificates.context))
        self._serving.handshakes.add(task)
        task.add_done_callback(self._serving.handshakes.discard)
