"""Who acts on the page: a browser that has shown a token of the installation, for half a day or until it signs out.

Looking needs none, as at the services' own doors on this machine. An act goes to its service with the token that the
browser has shown, so that roles hold, and the operators' log has its name. Whoever can read the home's token may come
by a link instead: it is proved by that token, works once, and is of no use to who sees it later.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import urlencode

SIGNED_IN_S = 12 * 3600
LINK_S = 600
SESSIONS_MAX = 1_000
SIGN_IN = "/sign-in"
OURS = re.compile(r"/(?![/\\])[^\\\x00-\x1f]*")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """As whom a browser acts."""

    bearer: str = field(repr=False)
    name: str
    roles: Sequence[str]


ACTS_AS: ContextVar[SignedIn | None] = ContextVar("acts_as", default=None)
"""As whom the request is made that is being answered; None: its browser has not signed in."""


class Sessions:
    """Which browsers have signed in, by the text of their cookie. `now_s` is monotonic."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._signed_in: dict[str, tuple[SignedIn, float]] = {}

    def begin(self, who: SignedIn) -> str:
        """A new session, so that one which somebody has put into the browser before is worth nothing."""
        if len(self._signed_in) >= SESSIONS_MAX:
            del self._signed_in[next(iter(self._signed_in))]
        session = new_session()
        self._signed_in[session] = who, self._now_s() + SIGNED_IN_S
        return session

    def of(self, session: str) -> SignedIn | None:
        who, until_s = self._signed_in.get(session, (None, 0.0))
        if who is not None and self._now_s() >= until_s:
            self.end(session)
            return None
        return who

    def end(self, session: str) -> None:
        self._signed_in.pop(session, None)


def new_session() -> str:
    return secrets.token_urlsafe(24)


def link(page: str, token: str, now_s: float) -> str:
    """An address at which a browser signs in as the holder of the token, once, within `LINK_S`."""
    until, nonce = str(round(now_s) + LINK_S), secrets.token_hex(8)
    return f"{page.rstrip('/')}{SIGN_IN}?{urlencode({'code': f'{until}.{nonce}.{_proof(token, until, nonce)}'})}"


class Links:
    """Takes the codes of such links. `wall_s` is the time of day, in s since the epoch."""

    def __init__(self, wall_s: Callable[[], float] = time.time) -> None:
        self._wall_s = wall_s
        self._used: dict[str, int] = {}

    def take(self, code: str, token: str) -> bool:
        """Whether the code is good, and was not taken before."""
        until, _, rest = code.partition(".")
        nonce, _, proof = rest.partition(".")
        if not hmac.compare_digest(proof.encode(), _proof(token, until, nonce).encode()):
            return False
        now_s = self._wall_s()
        self._used = {used: end for used, end in self._used.items() if end > now_s}
        if int(until) <= now_s or nonce in self._used:
            return False
        self._used[nonce] = int(until)
        return True


def own_path(place: str) -> str:
    """The place, if it is one of this page; else the first page."""
    return place if OURS.fullmatch(place) else "/"


def _proof(token: str, until: str, nonce: str) -> str:
    return hmac.new(token.encode(), f"orderflow console sign-in {until} {nonce}".encode(), sha256).hexdigest()
