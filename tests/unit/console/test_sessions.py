"""Who acts on the page: sessions, and the links by which one begins."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from orderflow.console.sessions import LINK_S, SIGNED_IN_S, Links, Sessions, SignedIn, link, own_path

ANNA = SignedIn("of_1_secret", "anna", ["operator"])
TOKEN = "of_2_secret"


class Now:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.s = 1_000_000.0

    def __call__(self) -> float:
        return self.s


def code_of(token: str, now: Now) -> str:
    [code] = parse_qs(urlsplit(link("http://127.0.0.1:8000/", token, now())).query)["code"]
    return code


def test_a_session_is_of_who_has_signed_in_until_it_ends() -> None:
    now = Now()
    sessions = Sessions(now)
    first, second = sessions.begin(ANNA), sessions.begin(ANNA)
    assert first != second
    assert sessions.of(first) is ANNA
    assert sessions.of("nobody's") is None
    sessions.end(first)
    assert sessions.of(first) is None
    now.s += SIGNED_IN_S - 1
    assert sessions.of(second) is ANNA
    now.s += 1
    assert sessions.of(second) is None


def test_a_link_works_once() -> None:
    now = Now()
    links, code = Links(now), code_of(TOKEN, now)
    assert links.take(code, TOKEN)
    assert not links.take(code, TOKEN)
    assert links.take(code_of(TOKEN, now), TOKEN)


def test_a_link_is_worth_nothing_when_it_is_old_forged_or_of_another_home() -> None:
    now = Now()
    links, code = Links(now), code_of(TOKEN, now)
    until, nonce, proof = code.split(".")
    assert not links.take(code, "of_3_other")
    assert not links.take(f"{int(until) + 1}.{nonce}.{proof}", TOKEN)
    assert not links.take(f"{until}.{nonce}x.{proof}", TOKEN)
    for nonsense in ("", ".", "..", "x.y.z", "é", f"{until}.{nonce}."):
        assert not links.take(nonsense, TOKEN)
    now.s += LINK_S
    assert not links.take(code, TOKEN)


def test_the_token_is_in_no_link_and_no_repr() -> None:
    assert TOKEN not in link("http://127.0.0.1:8000", TOKEN, 0.0)
    assert ANNA.bearer not in repr(ANNA)


@pytest.mark.parametrize("place", ["//evil.example", "/\\evil.example", "http://evil.example", "evil", "", "/a\r\nb"])
def test_only_a_place_of_the_page_is_gone_back_to(place: str) -> None:
    assert own_path(place) == "/"
    assert own_path("/orders?q=ada") == "/orders?q=ada"
