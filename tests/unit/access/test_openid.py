"""Tokens of an OpenID provider that is one: real keys, a real server that publishes them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from orderflow.access.openid import KeysUnavailableError, OpenIdTokens, Provider
from orderflow.core.access import Caller, CannotVerifyError, InvalidTokenError, Role
from tests.support.shop import Asked, Says, shop
from tests.unit.access.standing import Standing

ISSUER = "https://id.example/realms/shop"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
GOOD: dict[str, Any] = {"iss": ISSUER, "aud": "orderflow", "sub": "7f3a", "roles": ["operator", "cook"]}


def jwks(*, kid: str = "one") -> dict[str, Any]:
    keys = (
        (jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), kid, "RS256"),
        (jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), "curve", "ES256"),
    )
    return {"keys": [{**key, "kid": name, "alg": alg, "use": "sig"} for key, name, alg in keys]}


def token(changes: dict[str, Any] | None = None, *, key: Any = RSA, alg: str = "RS256", kid: str = "one") -> str:
    claims = {**GOOD, "exp": int(time.time()) + 600, **(changes or {})}
    return jwt.encode({name: each for name, each in claims.items() if each is not None}, key, alg, {"kid": kid})


def provider(where: str | None, **given: Any) -> Provider:
    return Provider(**{"issuer": ISSUER, "audience": "orderflow", "jwks": where, **given})


@pytest.fixture
async def tokens(tmp_path: Path) -> OpenIdTokens:
    (tmp_path / "jwks.json").write_text(json.dumps(jwks()))
    return await read(provider(str(tmp_path / "jwks.json")))


async def read(of: Provider, wall_s: Callable[[], float] = time.time) -> OpenIdTokens:
    """With the keys read once."""
    made = OpenIdTokens(of, Standing(), wall_s)
    await Standing.until_it_sleeps(made.step())
    return made


async def test_a_caller_is_told_by_what_the_provider_has_signed(tokens: OpenIdTokens) -> None:
    anna = Caller("oidc:7f3a", frozenset({Role.OPERATOR}))
    assert tokens.caller_of(token()) == anna
    assert tokens.caller_of(token(key=EC, alg="ES256", kid="curve")) == anna
    assert tokens.caller_of(token({"aud": ["other", "orderflow"], "iss": f"{ISSUER}/"})) == anna
    shop_ = tokens.caller_of(token({"roles": "shop", "shop": "espresso"}))
    assert (shop_.roles, shop_.shop) == (frozenset({Role.SHOP}), "espresso")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "exp"),
        ({"sub": None}, "sub"),
        ({"aud": "shop"}, "Audience"),
        ({"aud": None}, "aud"),
        ({"iss": "https://evil.example"}, "issuer"),
        ({"nbf": 2**31}, "not yet valid"),
        ({"roles": []}, "none of our roles"),
        ({"roles": ["cook"]}, "none of our roles"),
        ({"roles": None}, "none of our roles"),
        ({"roles": {"operator": True}}, "none of our roles"),
        ({"roles": ["shop"]}, "names no shop"),
        ({"roles": ["shop"], "shop": ""}, "names no shop"),
    ],
)
async def test_a_token_that_is_not_for_us_is_refused(tokens: OpenIdTokens, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidTokenError, match=why):
        tokens.caller_of(token(changes))


async def test_nobody_signs_for_the_provider(tokens: OpenIdTokens) -> None:
    public = jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())
    unsigned = jwt.encode({**GOOD, "exp": time.time() + 600}, "", "none", {"kid": "one"})
    for forged in (
        unsigned,
        token(key=OTHER),
        token(key=EC, alg="ES256"),
        jwt.encode({**GOOD, "exp": time.time() + 600}, "s" * 64, "HS256", {"kid": "one"}),
        token()[:-4] + "AAAA",
        "a.b.c",
        "nonsense",
        public,
    ):
        with pytest.raises(InvalidTokenError):
            tokens.caller_of(forged)


async def test_a_key_that_is_not_known_yet_is_asked_for_before_anybody_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    clock = Standing()
    made = OpenIdTokens(provider(str(file)), clock)
    with pytest.raises(CannotVerifyError):
        made.caller_of(token())
    file.write_text(json.dumps(jwks(kid="old")))
    await Standing.until_it_sleeps(made.step())
    with pytest.raises(InvalidTokenError, match="does not publish"):
        made.caller_of(token())
    clock.now_s += 60
    with pytest.raises(CannotVerifyError, match="being read"):
        made.caller_of(token())
    file.write_text(json.dumps(jwks()))
    await Standing.until_it_sleeps(made.step())
    assert made.caller_of(token()).name == "oidc:7f3a"


async def test_what_was_verified_counts_until_it_expires(tmp_path: Path) -> None:
    now_s = [time.time()]
    (tmp_path / "jwks.json").write_text(json.dumps(jwks()))
    tokens = await read(provider(str(tmp_path / "jwks.json")), lambda: now_s[0])
    shown = token({"exp": int(now_s[0]) - 29})
    assert tokens.caller_of(shown) == tokens.caller_of(shown)
    with pytest.raises(InvalidTokenError):
        tokens.caller_of(token({"exp": int(now_s[0]) - 31}))


async def test_roles_may_lie_deeper(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(json.dumps(jwks()))
    made = await read(provider(str(tmp_path / "jwks.json"), role_claim="realm_access.roles"))
    assert made.caller_of(token({"realm_access": {"roles": ["approver"]}})).roles == {Role.APPROVER}
    deeper: Any
    for deeper in (None, [], "approver", {"role": ["approver"]}, {"roles": None}):
        with pytest.raises(InvalidTokenError, match=r"realm_access\.roles"):
            made.caller_of(token({"realm_access": deeper}))


async def test_the_issuer_says_where_its_keys_are() -> None:
    def answer(asked: Asked) -> Says:
        place = f"http://{asked.headers['host']}"
        if asked.path == "/.well-known/openid-configuration":
            return Says(200, {"issuer": place, "jwks_uri": f"{place}/keys"})
        return Says(200, jwks()) if asked.path == "/keys" else Says(404, {})

    with shop(answer) as server:
        made = await read(provider(None, issuer=server.url))
        assert made.caller_of(token({"iss": server.url})).name == "oidc:7f3a"
        at_url = await read(provider(f"{server.url}/keys"))
        assert at_url.caller_of(token()).name == "oidc:7f3a"
        for wrong in (f"{server.url}/other", f"{server.url}/nowhere/keys", "/no/such/file"):
            with pytest.raises(KeysUnavailableError, match="cannot be read from"):
                await OpenIdTokens(provider(wrong), Standing()).step()


async def test_an_issuer_that_says_that_it_is_another_is_not_believed() -> None:
    with (
        shop(lambda _: Says(200, {"issuer": "https://evil.example", "jwks_uri": "https://evil.example/k"})) as server,
        pytest.raises(KeysUnavailableError, match=r"it is the issuer https://evil\.example"),
    ):
        await OpenIdTokens(provider(None, issuer=server.url), Standing()).step()
