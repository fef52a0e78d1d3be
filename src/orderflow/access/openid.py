"""Tokens of an OpenID provider: JWTs (RFC 9068 where the provider follows it), proved by the keys that it publishes.

The keys (JWK Set, RFC 7517) are read from a file or from where the issuer says (OpenID Connect Discovery 1.0, 4),
again every few minutes, and once more when a token names a key that is not among them: providers change keys.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jwt

from orderflow.access.tokens import is_shop
from orderflow.core.access import Caller, CannotVerifyError, InvalidTokenError, Role
from orderflow.core.failures import InfrastructureError
from orderflow.core.timing import Clock

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Those by which only the provider can sign: a key that it publishes must prove nothing else."""

READ_EVERY_S = 300.0
READ_AGAIN_AFTER_S = 10.0
ANSWER_TIMEOUT_S = 5.0
LEEWAY_S = 30
REMEMBERED_MAX = 1_000
KEYS_MAX_BYTES = 1_000_000


class KeysUnavailableError(InfrastructureError):
    """The provider's keys cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Whose tokens count, and for whom they must be meant. `jwks`: a file or a URL; None: what the issuer says.

    `role_claim` names the claim with the roles, with dots where it lies deeper; other names in it are passed over.
    """

    issuer: str
    audience: str
    jwks: str | None = None
    role_claim: str = "roles"
    shop_claim: str = "shop"


class OpenIdTokens:
    """Tells callers by the provider's tokens. `step` is to run for ever, beside the requests."""

    def __init__(self, provider: Provider, clock: Clock, wall_s: Callable[[], float] = time.time) -> None:
        self._provider = provider
        self._clock = clock
        self._wall_s = wall_s
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._read_at = float("-inf")
        self._wanted = asyncio.Event()
        self._known: dict[str, tuple[Caller, float]] = {}

    async def step(self) -> None:
        """Read the keys, then wait until it is time to read them again. Raises KeysUnavailableError."""
        found = await self._read()
        self._keys = {key.key_id: key for key in found}
        self._known.clear()
        self._read_at = self._clock.monotonic()
        self._wanted.clear()
        await self._clock.sleep(READ_AGAIN_AFTER_S)
        try:
            async with asyncio.timeout(READ_EVERY_S - READ_AGAIN_AFTER_S):
                await self._wanted.wait()
        except TimeoutError:
            return

    def caller_of(self, bearer: str) -> Caller:
        """Raises InvalidTokenError, CannotVerifyError."""
        known = self._known.get(bearer)
        if known is not None and self._wall_s() < known[1]:
            return known[0]
        try:
            claims = jwt.decode(
                bearer,
                self._key_of(bearer),
                algorithms=list(ALGORITHMS),
                audience=self._provider.audience,
                issuer=[self._provider.issuer, f"{self._provider.issuer}/"],
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.InvalidTokenError as error:
            raise InvalidTokenError(f"The provider's token is not valid: {error}.") from error
        caller = self._caller(claims)
        if len(self._known) >= REMEMBERED_MAX:
            self._known.clear()
        self._known[bearer] = (caller, float(claims["exp"]))
        return caller

    def _key_of(self, bearer: str) -> jwt.PyJWK:
        """Raises CannotVerifyError: the keys are not here, or are older than this one."""
        header = jwt.get_unverified_header(bearer)
        key = self._keys.get(header.get("kid"))
        if key is not None:
            return key
        if not self._keys or self._clock.monotonic() - self._read_at > READ_AGAIN_AFTER_S:
            self._wanted.set()
            raise CannotVerifyError("the keys of the OpenID provider are being read")
        raise InvalidTokenError("The provider's token is signed with a key that the provider does not publish.")

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        """Raises InvalidTokenError: it has no role that counts here."""
        provider = self._provider
        told: Any = claims
        for part in provider.role_claim.split("."):
            told = told.get(part, ()) if isinstance(told, Mapping) else ()
        listed = told if isinstance(told, list) else [told]
        named = {each for each in listed if isinstance(each, str)}
        roles = frozenset(role for role in Role if role.value in named)
        if not roles:
            raise InvalidTokenError(f"The provider's token has none of our roles in its claim {provider.role_claim}.")
        shop = claims.get(provider.shop_claim)
        if Role.SHOP in roles and not (isinstance(shop, str) and is_shop(shop)):
            raise InvalidTokenError(
                f"The provider's token has the role shop, and names no shop in its claim {provider.shop_claim}."
            )
        return Caller(f"oidc:{claims['sub']}", roles, shop if Role.SHOP in roles else None)

    async def _read(self) -> list[jwt.PyJWK]:
        where = self._provider.jwks
        try:
            if where is not None and not is_url(where):
                content: Any = json.loads(await asyncio.to_thread(Path(where).read_bytes))
            else:
                content = await self._fetch(where)
            keys = jwt.PyJWKSet.from_dict(content).keys
        except (OSError, ValueError, httpx2.HTTPError, jwt.PyJWTError) as error:
            place = where or self._provider.issuer
            raise KeysUnavailableError(f"the OpenID provider's keys cannot be read from {place}: {error}") from error
        return [key for key in keys if key.public_key_use in (None, "sig")]

    async def _fetch(self, url: str | None) -> Any:
        async with httpx2.AsyncClient(timeout=ANSWER_TIMEOUT_S) as client:
            if url is None:
                about = await _json(client, f"{self._provider.issuer}/.well-known/openid-configuration")
                if about["issuer"].rstrip("/") != self._provider.issuer:
                    raise ValueError(f"it says that it is the issuer {about['issuer']}")
                url = str(about["jwks_uri"])
            return await _json(client, url)


async def _json(client: httpx2.AsyncClient, url: str) -> Any:
    reply = (await client.get(url)).raise_for_status()
    if len(reply.content) > KEYS_MAX_BYTES:
        raise ValueError(f"{url} answers with more than {KEYS_MAX_BYTES} bytes")
    found = reply.json()
    if not isinstance(found, dict):
        raise ValueError(f"{url} answers with something other than an object")  # noqa: TRY004
    return found


def is_url(where: str) -> bool:
    return urlsplit(where).scheme in {"http", "https"}
