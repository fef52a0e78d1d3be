"""Who may talk to the page, and what a browser may do with it: hosts, origins, tokens, the content policy.

Sources: OWASP Cross-Site Request Forgery Prevention (signed tokens bound to a session, Fetch Metadata), CSP level 3.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from orderflow.console.sessions import ACTS_AS, Sessions, new_session
from orderflow.http.framing import joined

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "orderflow-console"
FIELD = "token"
HEADER = b"x-orderflow-token"
SESSION = re.compile(r"[A-Za-z0-9_-]{32}")
READS = frozenset({"GET", "HEAD"})
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
WRONG_HOST = "This page answers at its own address only. Open http://{host} instead."
WRONG_ORIGIN = "This request came from another page. Go back to the console, reload it, and try again."


class Guard:
    """In front of an application. Requests must name one of `hosts`; what changes something must come from our own
    pages and bear the token of its session. Each request gets a nonce for scripts, and is made as who has signed in.
    """

    def __init__(self, application: Asgi, hosts: Iterable[str], sessions: Sessions) -> None:
        self._application = application
        self._hosts = tuple(hosts)
        self._sessions = sessions
        self._key = secrets.token_bytes(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = joined(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if host not in self._hosts:
            await _refuse(send, 421, WRONG_HOST.format(host=self._hosts[0]))
            return
        if scope["method"] not in READS and not _is_own(headers, host):
            await _refuse(send, 403, WRONG_ORIGIN)
            return
        session = _session_of(headers) or new_session()
        nonce = secrets.token_urlsafe(16)
        state = {"nonce": nonce, "token": self.token(session), "header": headers.get(HEADER, b"").decode("latin-1")}
        scope["state"] = state | {"session": session}

        async def guarded(event: Event) -> None:
            if event["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.format(nonce=nonce).encode())
                cookie = _cookie(scope["state"]["session"])
                event["headers"] = [*event.get("headers", ()), *HEADERS, policy, cookie]
            await send(event)

        ACTS_AS.set(self._sessions.of(session))
        await self._application(scope, receive, guarded)

    def token(self, session: str) -> str:
        return hmac.new(self._key, session.encode(), sha256).hexdigest()


def is_confirmed(scope: Scope, field: str) -> bool:
    """Whether a request bears the token of its session, in a field of its form or in a header."""
    given = field or scope["state"]["header"]
    return hmac.compare_digest(given.encode(), scope["state"]["token"].encode())


def _is_own(headers: Any, host: str) -> bool:
    """A browser says where a request comes from by one of these; who says neither is no browser of today."""
    site = headers.get(b"sec-fetch-site", b"").decode("latin-1")
    origin = headers.get(b"origin", b"").decode("latin-1")
    if site and site != "same-origin":
        return False
    return urlsplit(origin).netloc == host if origin else bool(site)


def _session_of(headers: Any) -> str:
    try:
        found = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None and SESSION.fullmatch(found.value) else ""


def _cookie(session: str) -> tuple[bytes, bytes]:
    return b"set-cookie", f"{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict".encode()


async def _refuse(send: Send, status: int, sentence: str) -> None:
    content = sentence.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(content)), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
