"""How services are asked: connections that are kept, the proxy of the surroundings, answers of another release."""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import SplitResult, urlsplit

import pytest

from orderflow.cli import http
from orderflow.cli.errors import CliError, UnreachableError
from orderflow.cli.http import AnswerLostError, ClientTls, ServiceClient, opened
from orderflow.core.operations.model import DeadLetterPage
from tests.support.shop import Asked, Says, shop

PROXY = "http://between.example:8123"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[HTTPConnection]:
    """Every connection that a client makes."""
    connections: list[HTTPConnection] = []

    def noted(place: SplitResult, timeout_s: float, tls: ClientTls) -> tuple[HTTPConnection, str]:
        connection, before = opened(place, timeout_s, tls)
        connections.append(connection)
        return connection, before

    monkeypatch.setattr(http, "opened", noted)
    return connections


def test_a_connection_is_used_again(made: list[HTTPConnection]) -> None:
    with shop(lambda asked: Says(200, asked.path)) as server, ServiceClient("order", f"{server.url}/base/") as client:
        first = client.get("/orders", {"limit": 3, "after": "a&b"})
        second = client.get("/orders/ü")

    assert len(made) == 1
    assert (first, second) == ("/base/orders?limit=3&after=a%26b", "/base/orders/%C3%BC")


def test_a_connection_that_the_service_has_closed_is_made_anew() -> None:
    with (
        shop(lambda _: Says(200, 1, {"connection": "close"})) as server,
        ServiceClient("order", server.url) as client,
    ):
        assert [client.get("/orders"), client.get("/orders")] == [1, 1]


def test_a_connection_that_has_ended_without_a_word_is_made_anew(made: list[HTTPConnection]) -> None:
    with shop(lambda _: Says(200, 1)) as server, ServiceClient("order", server.url) as client:
        assert client.get("/orders") == 1
        made[0].sock.shutdown(socket.SHUT_RD)
        assert client.get("/orders") == 1

    assert len(made) == 2


def test_a_request_that_was_sent_is_not_sent_again() -> None:
    with shop(lambda _: Says(0)) as server, ServiceClient("order", server.url) as client:
        with pytest.raises(AnswerLostError, match="broke before it answered"):
            client.ask("POST", "/orders", body={})
        assert [asked.body for asked in server.asked] == [{}]


def test_a_proxy_is_asked_for_what_is_elsewhere_unless_it_is_excepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "near.example")

    far, before = opened(urlsplit("http://shop.example:8080/x"), 1.0, ClientTls())
    near, nothing = opened(urlsplit("http://near.example:8080"), 1.0, ClientTls())
    here, _ = opened(urlsplit("http://127.0.0.1:8080"), 1.0, ClientTls())

    assert (far.host, far.port, before) == ("between.example", 8123, "http://shop.example:8080")
    assert (near.host, near.port, nothing) == ("near.example", 8080, "")
    assert here.host == "127.0.0.1"


def test_what_is_secured_is_reached_through_a_proxy_by_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = opened(urlsplit("https://shop.example"), 1.0, ClientTls())
    monkeypatch.setenv("ALL_PROXY", PROXY)
    tunnelled, before = opened(urlsplit("https://shop.example"), 1.0, ClientTls())

    assert isinstance(plain, HTTPSConnection)
    assert isinstance(tunnelled, HTTPSConnection)
    assert (plain.host, plain.port) == ("shop.example", 443)
    assert (tunnelled.host, tunnelled.port, before) == ("between.example", 8123, "")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1:1", "http://", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_is_answered_by_nobody(url: str) -> None:
    with ServiceClient("order", url) as client, pytest.raises(UnreachableError, match="Nothing answers at"):
        client.get("/orders")


def test_an_answer_of_another_release_is_told_as_such_and_what_is_new_in_it_passed_over() -> None:
    answers = {"/old": {"dead_letters": []}, "/new": {"dead_letters": [], "next": None, "confirm": "", "fresh": 1}}

    def answer(asked: Asked) -> Says:
        return Says(200, answers[asked.path])

    with shop(answer) as server, ServiceClient("order", server.url) as client:
        with pytest.raises(CliError, match=r"a form that this release cannot read: .*`next`"):
            client.read(DeadLetterPage, "/old")
        assert client.read(DeadLetterPage, "/new").dead_letters == []
