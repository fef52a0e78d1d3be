"""Tokens of this installation: made once, shown once, kept as hashes in one file that services read again as it
changes.

A token is `of_<id>_<secret>` with 256 random bits in its secret, so that a plain SHA-256 is kept of it: there is
nothing to guess that a slow hash would protect. It is sent as `Authorization: Bearer` (RFC 6750).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import msgspec

from orderflow.core.access import RESERVED_NAMES, Caller, CannotVerifyError, InvalidTokenError, Role

PREFIX = "of"
SECRET_BYTES = 32
LOOK_EVERY_S = 1.0
SHOP_MAX = 100
ANEW = "Ask for a new one: orderflow token create"


class TokensFileError(Exception):
    """The file of tokens cannot be read or written, or holds something else. Its text is for a person."""


class TokenRefusedError(Exception):
    """Such a token is not made. Its text is for a person."""


class NoSuchTokenError(Exception):
    """No token that is good has this id or name. Its text is for a person."""


class TokenState(StrEnum):
    """Only a GOOD one counts."""

    GOOD = "good"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a token. `digest` is the SHA-256 of its secret; times are UTC."""

    id: str
    name: str
    roles: frozenset[Role]
    digest: str
    created: datetime
    shop: str | None = None
    expires: datetime | None = None
    revoked: datetime | None = None

    @property
    def caller(self) -> Caller:
        return Caller(self.name, self.roles, self.shop)

    def state(self, now: datetime) -> TokenState:
        if self.revoked is not None:
            return TokenState.REVOKED
        return TokenState.EXPIRED if self.expires is not None and now >= self.expires else TokenState.GOOD

    def is_good(self, now: datetime) -> bool:
        return self.state(now) is TokenState.GOOD


_ENDED = {TokenState.EXPIRED: "has expired", TokenState.REVOKED: "was revoked"}


class _Content(msgspec.Struct, kw_only=True):
    tokens: list[Token] = []
    version: int = 1


class TokensFile:
    """The file at `path`, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> Sequence[Token]:
        """Oldest first. Raises TokensFileError."""
        return self._read().tokens

    def has_good(self) -> bool:
        """Whether anybody can show a token at all. Raises TokensFileError."""
        now = datetime.now(UTC)
        return any(each.is_good(now) for each in self.all())

    def create(
        self, name: str, roles: frozenset[Role], *, shop: str | None = None, lifetime: timedelta | None = None
    ) -> tuple[Token, str]:
        """A new token and its text, which is told this once. Raises TokenRefusedError, TokensFileError."""
        _require_sound(name, roles, shop)
        secret, now = secrets.token_urlsafe(SECRET_BYTES), datetime.now(UTC)
        token = Token(
            id=secrets.token_hex(4),
            name=name,
            roles=roles,
            shop=shop,
            digest=_digest(secret),
            created=now,
            expires=None if lifetime is None else now + lifetime,
        )
        with self._changed() as content:
            if any(each.name == name and each.is_good(now) for each in content.tokens):
                raise TokenRefusedError(
                    f"{name} has a token already. Choose another name, or revoke that token first"
                )
            content.tokens.append(token)
        return token, f"{PREFIX}_{token.id}_{secret}"

    def revoke(self, named: str) -> Sequence[Token]:
        """Those of this id or name count no more, at once. Raises NoSuchTokenError, TokensFileError."""
        now = datetime.now(UTC)
        with self._changed() as content:
            meant = [each for each in content.tokens if named in (each.id, each.name) and each.revoked is None]
            if not meant:
                raise NoSuchTokenError(f"There is no token {named} that could be revoked")
            content.tokens = [
                msgspec.structs.replace(each, revoked=now) if each in meant else each for each in content.tokens
            ]
        return meant

    def _read(self) -> _Content:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_Content)
        except FileNotFoundError:
            return _Content()
        except OSError as error:
            raise TokensFileError(f"the tokens file {self.path} cannot be read: {error.strerror}") from error
        except (msgspec.DecodeError, ValueError) as error:
            raise TokensFileError(f"{self.path} is not a tokens file: {error}") from error

    @contextmanager
    def _changed(self) -> Iterator[_Content]:
        """What is there, to be changed; written as a whole when the block ends well, by one process at a time."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(self.path.with_name(f"{self.path.name}.lock")):
                content = self._read()
                yield content
                write_secret(self.path, msgspec.json.format(msgspec.json.encode(content)))
        except OSError as error:
            raise TokensFileError(f"the tokens file {self.path} cannot be written: {error.strerror}") from error


class Tokens:
    """Tells callers by their tokens: by a new one at once, by one that was taken back for a second at most."""

    def __init__(
        self,
        file: TokensFile,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._file = file
        self._monotonic = monotonic
        self._now = now
        self._looked_at = float("-inf")
        self._seen: tuple[int, ...] | None = None
        self._by_id: dict[str, Token] = {}

    def knows(self, bearer: str) -> bool:
        """Whether this has the form of a token of ours."""
        return bearer.startswith(f"{PREFIX}_")

    def caller_of(self, bearer: str) -> Caller:
        """Raises InvalidTokenError, CannotVerifyError."""
        _, _, rest = bearer.partition("_")
        token_id, _, secret = rest.partition("_")
        now = self._monotonic()
        if token_id not in self._by_id or now - self._looked_at >= LOOK_EVERY_S:
            self._look()
            self._looked_at = now
        token = self._by_id.get(token_id)
        if token is None or not hmac.compare_digest(_digest(secret), token.digest):
            raise InvalidTokenError(f"This token is not known here. {ANEW}.")
        state = token.state(self._now())
        if state is not TokenState.GOOD:
            raise InvalidTokenError(f"The token {token.id} {_ENDED[state]}. {ANEW}.")
        return token.caller

    def _look(self) -> None:
        seen = _mark(self._file.path)
        if seen != self._seen:
            try:
                self._by_id = {each.id: each for each in self._file.all()}
            except TokensFileError as error:
                raise CannotVerifyError(str(error)) from error
            self._seen = seen


def _mark(path: Path) -> tuple[int, ...]:
    """What changes when the file does; it is replaced, never written over."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _require_sound(name: str, roles: frozenset[Role], shop: str | None) -> None:
    if not name.strip() or not name.isprintable() or name in RESERVED_NAMES:
        raise TokenRefusedError(f"{name!r} cannot name a token: the name tells in the operators' log who acted")
    if not roles:
        raise TokenRefusedError("A token needs at least one role")
    if Role.SHOP in roles and roles <= {Role.SHOP, Role.VIEWER} and shop is None:
        raise TokenRefusedError("A token with the role shop needs the shop's name: --shop NAME")
    if shop is not None and (Role.SHOP not in roles or not is_shop(shop)):
        raise TokenRefusedError(
            f"--shop {shop!r} goes with the role shop, and is a name of {SHOP_MAX} printable characters at most"
        )


def is_shop(name: str) -> bool:
    """Whether an order can carry it as the name of its shop."""
    return bool(name.strip()) and len(name) <= SHOP_MAX and name.isprintable()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time, where the system can see to that."""
    descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_secret(path: Path, content: bytes) -> None:
    """Replace a file as a whole by one that its owner alone may read. Raises OSError."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
