"""Who is let in, before anything is done for a request: by which name it has called, from which page, how often, and
who asks.

A web page in a browser on this machine reaches loopback as well as we do. It cannot leave out what the browser says
of it: `Host` (a name that somebody else has bound to our address: DNS rebinding), `Origin` (RFC 6454) and
`Sec-Fetch-Site` (W3C Fetch Metadata). Tokens are bearer tokens (RFC 6750).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orderflow.core.access import ANONYMOUS, STRANGER, Caller, CannotVerifyError, InvalidTokenError
from orderflow.http.operation import CROSS_SITE, MISDIRECTED, Headers
from orderflow.http.problems import ProblemError, challenge

KEYS_MAX = 10_000
RATE_BEYOND_LOOPBACK = 1_000
VERIFY_RETRY_S = 1
VERIFIED_S = 1.0
VERIFIED_MAX = 1_000
_OWN_NAMES = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
_SAME_SITE = frozenset({b"same-origin", b"none"})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on that address or name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class RateLimit:
    """A token bucket a key: `per_s` requests a second, and as many at once after a quiet second.

    It remembers `KEYS_MAX` keys; beyond them, those that have been quiet for longest are forgotten.
    """

    def __init__(self, per_s: int, now: Callable[[], float]) -> None:
        self._per_s = per_s
        self._now = now
        self._buckets: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_s(self, key: str) -> float:
        """Count a request: 0.0 where it may go on, else for how many seconds none may."""
        now, per_s = self._now(), self._per_s
        level, since = self._buckets.pop(key, (per_s, now))
        level = min(per_s, level + (now - since) * per_s)
        if level >= 1:
            self._buckets[key] = (level - 1, now)
            if len(self._buckets) > KEYS_MAX:
                del self._buckets[next(iter(self._buckets))]
            return 0.0
        self._buckets[key] = (level, now)
        return (1 - level) / per_s


@dataclass(frozen=True, slots=True)
class Ends:
    """The addresses of a connection: ours, and the other one, as the limits count it. None: it is not counted."""

    ours: str = ""
    counted: str | None = None


class Gate:
    """Of one door. `host` is what it listens on, `names` what it is called beside that and this machine's own names.

    `verify` tells a caller by the token shown, for a second; it raises InvalidTokenError, CannotVerifyError.
    `anonymous`: who shows none may come in as ANONYMOUS where only this machine can come in, or where somebody has
    said that this is to be `insecure`; else as STRANGER. `token_rate` and `address_rate` are requests a second; None
    is a bound beyond loopback only.
    """

    def __init__(
        self,
        host: str,
        verify: Callable[[str], Caller],
        now: Callable[[], float],
        *,
        names: tuple[str, ...] = (),
        anonymous: bool = True,
        insecure: bool = False,
        token_rate: int | None = None,
        address_rate: int | None = None,
    ) -> None:
        is_ours_alone = is_loopback(host)
        known = {f"[{host}]" if ":" in host else host, *names}
        self._names = _OWN_NAMES | {name.lower().encode() for name in known}
        self._verify = verify
        self._now = now
        self._verified: dict[bytes, tuple[Caller, float]] = {}
        self._nameless = ANONYMOUS if anonymous and (is_ours_alone or insecure) else STRANGER
        self._counts_loopback = address_rate is not None
        self._addresses = RateLimit(address_rate or RATE_BEYOND_LOOPBACK, now)
        by_default = None if is_ours_alone else RATE_BEYOND_LOOPBACK
        rate = token_rate or by_default
        self._tokens = None if rate is None else RateLimit(rate, now)
        rates = {"token_rate": rate, "address_rate": address_rate or by_default}
        self.rates = {name: value for name, value in rates.items() if value is not None}
        """What bounds there are, in requests a second, by what is counted."""

    def ends(self, ours: object, theirs: object) -> Ends:
        """Of a connection, from its socket's names. What is no pair of address and port is not counted."""
        own, other = _address(ours), _address(theirs)
        if other is None or (is_loopback(other) and not self._counts_loopback):
            return Ends(own or "")
        # Who has one address of IPv6 has a network of them (RFC 4291, 2.5.4).
        counted = str(ipaddress.ip_network((other, 64), strict=False)) if ":" in other else other
        return Ends(own or "", counted)

    def admit(self, headers: Mapping[bytes, bytes], ends: Ends) -> Caller:
        """Who asks. Raises ProblemError: 421, 403, 429, 401, 503."""
        host = headers.get(b"host")
        if host is not None:
            self._require_name(host, ends)
        if b"sec-fetch-site" in headers or b"origin" in headers:
            _require_same_site(headers)
        if ends.counted is not None:
            _require_room(self._addresses, ends.counted, "this address")
        shown = headers.get(b"authorization")
        if shown is None:
            return self._nameless
        now = self._now()
        known = self._verified.get(shown)
        if known is not None and now < known[1]:
            caller = known[0]
        else:
            caller = self._caller(shown)
            if len(self._verified) >= VERIFIED_MAX:
                self._verified.clear()
            self._verified[shown] = (caller, now + VERIFIED_S)
        if self._tokens is not None:
            _require_room(self._tokens, caller.name, f"the token of {caller.name}")
        return caller

    def _require_name(self, host: bytes, ends: Ends) -> None:
        if host in self._names:
            return
        name = _without_port(host.lower()).removesuffix(b".")
        if name in self._names or _is_at(name, ends.ours):
            return
        shown = name.decode("ascii", "replace")[:100]
        raise ProblemError(421, f"this service does not answer to the name {shown}", kind=MISDIRECTED)

    def _caller(self, shown: bytes) -> Caller:
        try:
            return self._verify(_bearer(shown))
        except InvalidTokenError as error:
            detail = str(error).removesuffix(".")
            headers: Headers = (challenge("invalid_token", detail),)
            raise ProblemError(401, detail, headers=headers) from error
        except CannotVerifyError as error:
            raise ProblemError(503, str(error), retry_after_s=VERIFY_RETRY_S) from error


def _bearer(shown: bytes) -> str:
    """Raises InvalidTokenError."""
    scheme, _, token = shown.partition(b" ")
    if scheme.lower() != b"bearer":
        raise InvalidTokenError(
            "The Authorization header is not a bearer token: expected `Authorization: Bearer TOKEN`."
        )
    return token.strip().decode("ascii", "replace")


def _require_same_site(headers: Mapping[bytes, bytes]) -> None:
    """RFC 6454, 7; Fetch Metadata, 2.4. A page of another port of this machine is another origin, too."""
    site = headers.get(b"sec-fetch-site")
    origin = headers.get(b"origin")
    host = headers.get(b"host", b"")
    if site is not None and site not in _SAME_SITE:
        raise ProblemError(403, "a page of another site made this request", kind=CROSS_SITE)
    if origin is not None and origin.lower().partition(b"://")[2] != host.lower():
        raise ProblemError(403, "a page of another origin made this request", kind=CROSS_SITE)


def _require_room(limit: RateLimit, key: str, who: str) -> None:
    if (wait_s := limit.wait_s(key)) > 0:
        raise ProblemError(429, f"{who} has sent too many requests", retry_after_s=wait_s)


def _without_port(host: bytes) -> bytes:
    if host.startswith(b"["):
        return host.partition(b"]")[0] + b"]"
    return host.partition(b":")[0]


def _is_at(name: bytes, ours: str) -> bool:
    """Whether it is the address itself at which the connection has come in: no other name can be bound to that."""
    return bool(ours) and name.strip(b"[]").decode("ascii", "replace") == ours.lower()


def _address(end: object) -> str | None:
    if isinstance(end, tuple) and len(end) >= 2 and isinstance(end[0], str):
        return end[0].partition("%")[0].removeprefix("::ffff:")
    return None
