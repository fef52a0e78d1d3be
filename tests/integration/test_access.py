"""Who may do what, over real sockets: every cell of the table in docs/security.md, and what strangers try."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from orderflow.access.tokens import TokensFile
from orderflow.core.access import Role
from orderflow.core.transport import ProducerRecord
from orderflow.events.base import PAYMENT_STATUS
from orderflow.http import Example
from orderflow.http.operation import Operation
from tests.support.callers import ops_url, shown
from tests.support.postgres import PostgresServer
from tests.support.saga import SERVICES, Databases, databases, running, wire
from tests.support.security_page import ANONYMOUS, ANYBODY, COLUMNS, PAGE, Cell, cells, page
from tests.support.waiting import eventually

ORDER = {
    "customer_id": "ada lovelace",
    "currency": "EUR",
    "items": [{"sku": "SKU-MILK-JUG", "quantity": 1, "unit_price": 700}],
    "payment_method": "pm_card_visa",
}
NEVER_ANSWERS = {**ORDER, "payment_method": "pm_timeout_charged"}
IN_PATH = {
    "order_id": Example.ORDER_ID,
    "sku": Example.SKU,
    "id": "7",
    "number": "1",
    "key": Example.ORDER_ID,
    "fingerprint": "0" * 16,
    "consumer": "order",
    "ends": "0f",
}
EVIL = "evil.example"


@dataclass(frozen=True)
class System:
    """Four services, by name, and the file of their tokens. No client shows a token unless a request does."""

    clients: dict[str, httpx2.AsyncClient]
    tokens: TokensFile

    def token(self, *roles: Role, shop: str | None = None, lifetime: timedelta | None = None) -> dict[str, str]:
        """The header of a new caller."""
        name = f"{'-'.join(roles)}-{uuid4().hex[:6]}"
        return shown(self.tokens.create(name, frozenset(roles), shop=shop, lifetime=lifetime)[1])

    async def ask(self, service: str, method: str, path: str, **request: Any) -> httpx2.Response:
        return await self.clients[service].request(method, path, **request)


@pytest.fixture
def everything(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, *SERVICES) as made:
        yield made


@asynccontextmanager
async def serving(made: Databases, home: Path, *services: str, **settings: object) -> AsyncIterator[System]:
    await made.migrate()
    async with AsyncExitStack() as stack:
        clients = {name: await stack.enter_async_context(running(name, made, home, **settings)) for name in services}
        for client in clients.values():
            del client.headers["authorization"]
        yield System(clients, TokensFile(home / "tokens.json"))


def example(operation: Operation) -> dict[str, Any]:
    """A request that names nothing that exists, or what the document gives as an example."""
    path = re.sub(r"\{(\w+)\}", lambda match: IN_PATH[match[1]], operation.path)
    query = {each.name: "0" for each in operation.parameters if each.where == "query" and each.required}
    body = {} if operation.request is None else {"json": operation.example}
    return {"method": operation.method, "url": path, "params": query, **body}


async def refusals(system: System, cell: Cell, headers: dict[str, str]) -> int:
    """401 or 403, if that is the answer; else 0."""
    answer = await system.clients[cell.service].request(**example(cell.operation), headers=headers)
    assert answer.status_code < 500, f"{cell.name}: {answer.text}"
    return answer.status_code if answer.status_code in (401, 403) else 0


def test_the_table_in_the_docs_is_the_one_that_the_services_declare() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == page(written), "run: python -m tests.support.security_page"


async def test_every_cell_of_the_table_is_as_it_says(everything: Databases, tmp_path: Path) -> None:
    wrong: list[str] = []
    async with serving(everything, tmp_path, *SERVICES, game_day=True, demo_catalogue=False) as system:
        tokens = {role: system.token(role, shop="espresso" if role is Role.SHOP else None) for role in Role}
        shows: dict[str, dict[str, str]] = {ANONYMOUS: {}, **{str(role): each for role, each in tokens.items()}}
        for cell in cells():
            for column, allowed in zip(COLUMNS, cell.allowed, strict=True):
                if column != ANYBODY:
                    wanted = 0 if allowed else 401 if column == ANONYMOUS else 403
                    found = await refusals(system, cell, shows[column])
                    wrong += [] if found == wanted else [f"{cell.name} by {column}: {found}, not {wanted}"]
    async with serving(everything, tmp_path, *SERVICES, game_day=True, anonymous=False) as system:
        for cell in cells():
            wanted = 0 if cell.allowed[COLUMNS.index(ANYBODY)] else 401
            found = await refusals(system, cell, {})
            wrong += [] if found == wanted else [f"{cell.name} by {ANYBODY}: {found}, not {wanted}"]
    assert wrong == []


async def test_what_is_behind_one_door_is_not_behind_the_other(everything: Databases, tmp_path: Path) -> None:
    async with serving(everything, tmp_path, *SERVICES, game_day=True) as system:
        everybody = system.token(*Role)
        async with httpx2.AsyncClient(headers=everybody) as web:
            for cell in cells():
                client = system.clients[cell.service]
                other = str(client.base_url).rstrip("/") if cell.door == "operators" else ops_url(client).rstrip("/")
                asked = example(cell.operation)
                answer = await web.request(**{**asked, "url": other + asked["url"]})
                assert (answer.status_code, answer.json()["type"]) == (404, "/docs/problems/not-found"), cell.name


async def test_nobody_without_a_token_settles_a_charge(everything: Databases, tmp_path: Path) -> None:
    never = {"gateway_timeout_ms": 60_000, "intent_lease_ms": 120_000, "drain_timeout_s": 1}
    said = {"outcome": "charged", "reason": "I say so", "confirmed": True}
    async with serving(everything, tmp_path, *SERVICES, **never) as system:
        order_id = (await system.ask("order", "POST", "/orders", json=NEVER_ANSWERS)).json()["id"]

        async def is_pending() -> bool:
            return (await system.ask("payment", "GET", f"/payments/{order_id}")).status_code == 200

        await eventually(is_pending, timeout_s=60)
        path = f"/payments/{order_id}/settlement"
        tries = [
            await system.ask("payment", "POST", path, json=said, headers=headers)
            for headers in (
                {},
                {"x-orderflow-operator": "root@localhost"},
                shown("of_0_guessed"),
                {"Authorization": "Basic cm9vdDpyb290"},
                system.token(Role.OPERATOR),
            )
        ]
        assert [each.status_code for each in tries] == [401, 401, 401, 401, 403]
        assert tries[0].headers["www-authenticate"] == 'Bearer realm="orderflow"'
        assert 'error="invalid_token"' in tries[2].headers["www-authenticate"]
        assert tries[4].headers["www-authenticate"].endswith('error="insufficient_scope", scope="approver"')
        assert "orderflow token create" in tries[0].json()["detail"]
        assert "needs the role approver" in tries[4].json()["detail"]
        actions = (await system.ask("payment", "GET", "/ops/actions")).json()
        assert actions == []
        assert (await system.ask("order", "GET", f"/orders/{order_id}")).json()["status"] == "PENDING"
        approver = system.token(Role.APPROVER)
        assert (await system.ask("payment", "POST", path, json=said, headers=approver)).status_code == 200
        ended = await system.ask("order", "GET", f"/orders/{order_id}", params={"wait": 60})
        assert ended.json()["status"] == "COMPLETED"


FROM_ELSEWHERE: tuple[tuple[dict[str, str], int], ...] = (
    ({"Host": EVIL}, 421),
    ({"Host": f"{EVIL}:8001"}, 421),
    ({"Host": f"localhost.{EVIL}"}, 421),
    ({"Host": "127.0.0.1.nip.io"}, 421),
    ({"Host": "[::2]:8001"}, 421),
    ({"Host": ""}, 421),
    ({"Origin": f"http://{EVIL}"}, 403),
    ({"Origin": "http://localhost:3000"}, 403),
    ({"Origin": "null"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "same-origin", "Origin": f"http://{EVIL}"}, 403),
)


async def test_a_web_page_on_this_machine_can_neither_act_nor_read(everything: Databases, tmp_path: Path) -> None:
    async with serving(everything, tmp_path, "order", allowed_hosts="orders.example") as system:
        client = system.clients["order"]
        everybody = system.token(*Role)
        for headers, status in FROM_ELSEWHERE:
            for shows in ({}, everybody):
                for method, path, body in (
                    ("POST", "/orders", ORDER),
                    ("GET", "/orders", None),
                    ("GET", "/docs", None),
                    ("GET", "/health/live", None),
                    ("GET", "/docs/files/swagger-ui.css", None),
                    ("POST", "/ops/replays", {}),
                    ("OPTIONS", "/orders", None),
                ):
                    answer = await client.request(method, path, json=body, headers={**headers, **shows})
                    assert answer.status_code == status, (headers, method, path)
        assert (await system.ask("order", "GET", "/orders")).json()["orders"] == []
        places = (str(client.base_url), ops_url(client))
        names = ("localhost", "127.0.0.1", "LOCALHOST:1", "localhost.", "[::1]:8001", "orders.example:443")
        for name in names:
            assert (await client.get("/orders", headers={"Host": name})).status_code == 200, name
            assert (await client.get("/health/live", headers={"Host": name})).status_code == 200, name
        async with httpx2.AsyncClient() as web:
            for place in places:
                own = {"Origin": place.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
                assert (await web.get(f"{place.rstrip('/')}/docs", headers=own)).status_code == 200
                assert (await web.get(f"{place.rstrip('/')}/docs", headers={"Sec-Fetch-Site": "none"})).is_success


async def test_an_absolute_target_does_not_hide_the_name_that_was_called(
    everything: Databases, tmp_path: Path
) -> None:
    async with serving(everything, tmp_path, "order") as system:
        port = system.clients["order"].base_url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET http://{EVIL}/orders HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (await asyncio.wait_for(reader.readline(), 30)).split()[1] == b"421"
        writer.close()


async def test_a_shop_sees_its_own_orders_and_nothing_of_others(everything: Databases, tmp_path: Path) -> None:
    async with serving(everything, tmp_path, "order") as system:
        ours, theirs = (system.token(Role.SHOP, shop=name) for name in ("espresso", "tea"))
        key = {"Idempotency-Key": '"1"'}

        async def place(headers: dict[str, str]) -> str:
            answer = await system.ask("order", "POST", "/orders", json=ORDER, headers={**headers, **key})
            assert answer.status_code == 201, answer.text
            return str(answer.json()["id"])

        placed = [await place(each) for each in (ours, theirs, {})]
        assert await place(ours) == placed[0]
        assert len(set(placed)) == 3

        async def listed(headers: dict[str, str], **query: str) -> list[str]:
            page = (await system.ask("order", "GET", "/orders", params=query, headers=headers)).json()
            return [each["id"] for each in page["orders"]]

        assert await listed(ours) == await listed(ours, status="PENDING") == [placed[0]]
        assert await listed(ours, status="FAILED") == []
        assert await listed(ours, id_ends=placed[0][-6:]) == [placed[0]]
        assert await listed(ours, id_ends=placed[1][-6:]) == []
        assert sorted(await listed({})) == sorted(placed)
        for query in ({}, {"wait": 5}):
            seen = [
                await system.ask("order", "GET", f"/orders/{each}", headers=ours, params=query) for each in placed[1:]
            ]
            assert [each.status_code for each in seen] == [404, 404]
        shown_to = {"operator": system.token(Role.OPERATOR), "viewer": system.token(Role.VIEWER)}
        for headers in shown_to.values():
            found = (await system.ask("order", "GET", f"/orders/{placed[0]}", headers=headers)).json()
            assert found["shop"] == "espresso"
            assert await listed(headers) == await listed({})


async def test_a_viewer_reads_nothing_of_customers(everything: Databases, tmp_path: Path) -> None:
    async with serving(everything, tmp_path, *SERVICES) as system, wire(everything) as log:
        order_id = (await system.ask("order", "POST", "/orders", json=ORDER)).json()["id"]
        assert (await system.ask("order", "GET", f"/orders/{order_id}", params={"wait": 60})).json()["status"]
        await log.append(ProducerRecord(PAYMENT_STATUS, b"k", b'{"customer_id": "ada lovelace"}', ()))

        async def told() -> bool:
            found = [
                await system.ask("order", "GET", "/ops/dead-letters"),
                await system.ask("notification", "GET", "/notifications"),
            ]
            return bool(found[0].json()["dead_letters"] and found[1].json()["notifications"])

        await eventually(told, timeout_s=60)
        position = (await system.ask("order", "GET", "/ops/dead-letters")).json()["dead_letters"][0]["position"]
        read = (
            ("order", f"/orders/{order_id}"),
            ("order", "/orders"),
            ("payment", f"/payments/{order_id}"),
            ("payment", "/payments"),
            ("notification", "/notifications"),
            ("order", f"/ops/dead-letters/{position}"),
        )
        viewer, operator = system.token(Role.VIEWER), system.token(Role.OPERATOR)
        for service, path in read:
            hidden = await system.ask(service, "GET", path, headers=viewer)
            open_ = await system.ask(service, "GET", path, headers=operator)
            assert (hidden.status_code, open_.status_code) == (200, 200), path
            assert "ada lovelace" in open_.text, path
            assert "ada lovelace" not in hidden.text, path
            assert hidden.json().keys() == open_.json().keys()


async def test_stock_goes_up_by_an_operator_and_down_by_an_approver(everything: Databases, tmp_path: Path) -> None:
    async with serving(everything, tmp_path, "inventory", demo_catalogue=False) as system:
        operator, approver = system.token(Role.OPERATOR), system.token(Role.APPROVER)

        async def put(on_hand: int, headers: dict[str, str]) -> int:
            answer = await system.ask("inventory", "PUT", "/stock/TEA", json={"on_hand": on_hand}, headers=headers)
            return answer.status_code

        steps: tuple[tuple[int, dict[str, str]], ...]
        steps = ((5, operator), (9, operator), (8, operator), (9, operator), (8, approver), (10, approver), (1, {}))
        assert [await put(*step) for step in steps] == [201, 200, 403, 200, 200, 200, 401]
        assert (await system.ask("inventory", "GET", "/stock/TEA")).json()["on_hand"] == 10


async def test_a_token_counts_until_it_ends_or_is_taken_back(everything: Databases, tmp_path: Path) -> None:
    async with serving(everything, tmp_path, "order", anonymous=False) as system:
        viewer = system.token(Role.VIEWER)
        short = system.token(Role.VIEWER, lifetime=timedelta(seconds=2))

        async def status(headers: dict[str, str]) -> int:
            return (await system.ask("order", "GET", "/orders", headers=headers)).status_code

        async def is_refused(headers: dict[str, str]) -> bool:
            return await status(headers) == 401

        await eventually(lambda: is_refused(short), timeout_s=30)
        answer = await system.ask("order", "GET", "/orders", headers=short)
        assert "expired" in answer.json()["detail"]
        assert await status(viewer) == 200
        system.tokens.revoke(
            next(each.name for each in system.tokens.all() if each.expires is None and each.roles == {Role.VIEWER})
        )
        await eventually(lambda: is_refused(viewer), timeout_s=30)
        tampered = {"Authorization": viewer["Authorization"][:-1] + "_"}
        assert await status(tampered) == 401


async def test_too_many_requests_are_told_when_to_come_again(everything: Databases, tmp_path: Path) -> None:
    limits = {"http_token_rate_max": 5, "http_address_rate_max": 1000}
    async with serving(everything, tmp_path, "order", **limits) as system:
        fast, slow = system.token(Role.VIEWER), system.token(Role.VIEWER)
        answers = [await system.ask("order", "GET", "/orders", headers=fast) for _ in range(30)]
        refused = [each for each in answers if each.status_code == 429]
        assert refused
        assert refused[0].headers["retry-after"] == "1"
        assert refused[0].json()["type"] == "/docs/problems/too-many-requests"
        assert (await system.ask("order", "GET", "/orders", headers=slow)).status_code == 200
        metrics = (await system.ask("order", "GET", "/metrics")).text
        assert f'orderflow_http_refused_total{{problem="too-many-requests"}} {len(refused)}.0' in metrics
        assert 'orderflow_http_limit{door="public",limit="token_rate"} 5.0' in metrics
    async with serving(everything, tmp_path, "order", http_address_rate_max=3) as system:
        answers = [await system.ask("order", "GET", "/orders") for _ in range(30)]
        assert {each.status_code for each in answers} == {200, 429}


async def test_bounds_of_head_and_body_are_settings(everything: Databases, tmp_path: Path) -> None:
    async with serving(everything, tmp_path, "order", http_head_max_kb=1, http_body_max_kb=1) as system:
        long = {**ORDER, "customer_id": "c" * 1100}
        answers = [
            await system.ask("order", "POST", "/orders", json=long),
            await system.ask("order", "GET", "/orders", headers={"x": "x" * 1100}),
            await system.ask("order", "POST", "/orders", json=ORDER),
        ]
        assert [each.status_code for each in answers] == [413, 431, 201]
