"""Callers who may do everything, for tests of what is done, not of who may do it; clients that know both doors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2

from orderflow.access.tokens import TokensFile
from orderflow.cli.http import FOR_OPERATORS
from orderflow.core.access import Caller, Role
from orderflow.http.application import CALLER, Application, Asgi, Receive, Scope, Send


def person(name: str) -> Caller:
    return Caller(name, frozenset(Role))


TOKEN_NAME = "tests.token"


def token_in(home: Path) -> str:
    """The token of one who may do everything on this home, made when it is first asked for."""
    kept = home / TOKEN_NAME
    if not kept.exists():
        _, text = TokensFile(home / "tokens.json").create("tests", frozenset(Role))
        kept.write_text(text)
    return kept.read_text()


def shown(token: str) -> dict[str, str]:
    """The header that shows it."""
    return {"Authorization": f"Bearer {token}"}


class BothDoors(httpx2.AsyncHTTPTransport):
    """Takes each request to the door that it is for."""

    def __init__(self, ops_port: int) -> None:
        super().__init__(verify=False)
        self.ops_port = ops_port

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if FOR_OPERATORS.fullmatch(request.url.path):
            request.url = request.url.copy_with(port=self.ops_port)
        return await super().handle_async_request(request)


class ServiceClient(httpx2.AsyncClient):
    """A client of one service, which knows both of its doors."""

    def __init__(self, base_url: str, ops_port: int, **options: Any) -> None:
        super().__init__(base_url=base_url, transport=BothDoors(ops_port), **options)
        self.ops_url = str(self.base_url.copy_with(port=ops_port))


def client(
    port: int, ops_port: int, token: str | None = None, timeout_s: float = 60.0, *, scheme: str = "http"
) -> httpx2.AsyncClient:
    """Of a service on this machine, at both of its doors."""
    headers = shown(token) if token else {}
    return ServiceClient(f"{scheme}://127.0.0.1:{port}", ops_port, headers=headers, timeout=timeout_s)


def ops_url(client: httpx2.AsyncClient) -> str:
    """Where such a client finds the operators' door."""
    assert isinstance(client, ServiceClient)
    return client.ops_url


def settings_of(**clients: httpx2.AsyncClient) -> dict[str, str]:
    """What a command line needs to reach these services, by name, as their clients do."""
    given: dict[str, str] = {}
    for name, each in clients.items():
        given["TOKEN"] = each.headers["Authorization"].removeprefix("Bearer ")
        given[f"{name.upper()}_URL"] = str(each.base_url).rstrip("/")
        given[f"{name.upper()}_OPS_URL"] = ops_url(each).rstrip("/")
    return given


def of_caller(application: Application, caller: Caller) -> Asgi:
    """The application as this caller reaches it, in process."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        await application({**scope, CALLER: caller}, receive, send)

    return asked
