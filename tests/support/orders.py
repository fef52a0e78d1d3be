"""An order service in memory, for load: real sockets, orders that end when the test says."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

ENDS = {"pm_card_chargeDeclined": "card_declined", "pm_card_chargeDeclinedInsufficientFunds": "insufficient_funds"}


@dataclass
class OrderServer:
    """`url` answers; orders end by themselves after `delay_s`, or never. `refuse` answers so many POSTs with 503;
    `cut` breaks so many connections after the order was placed, before the answer.
    """

    delay_s: float | None = 0.0
    refuse: int = 0
    cut: int = 0
    url: str = ""
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_key: dict[str, str] = field(default_factory=dict)
    posts: int = 0
    gets: list[str] = field(default_factory=list)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)
    _ended: dict[str, asyncio.Event] = field(default_factory=dict)

    def end(self, order_id: str) -> None:
        order = self.orders[order_id]
        reason = ENDS.get(order["payment_method"])
        sold_out = any(item["sku"] == "SKU-SOLD-OUT" for item in order["items"])
        order["reason"] = reason or ("out_of_stock" if sold_out else None)
        order["refund"] = "done" if sold_out and not reason else "none"
        order["status"] = "FAILED" if order["reason"] else "COMPLETED"
        self._ended[order_id].set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._serving.discard(task)
            writer.close()

    async def hang_up(self) -> None:
        """End every conversation."""
        tasks = list(self._serving)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            method, path, _ = line.decode().split()
            headers = {}
            while (header := await reader.readline()).strip():
                name, _, value = header.decode().partition(":")
                headers[name.lower()] = value.strip()
            content = await reader.readexactly(int(headers.get("content-length", 0)))
            status, body = await self._answer(method, path, headers, content)
            if status == 0:
                break
            retry = b"retry-after: 0\r\n" if status == 503 else b""
            encoded = json.dumps(body).encode()
            head = b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n" % (status, retry, len(encoded))
            writer.write(head + encoded)
            await writer.drain()

    async def _answer(self, method: str, path: str, headers: dict[str, str], content: bytes) -> tuple[int, Any]:
        if method == "POST":
            return self._place(headers["idempotency-key"], json.loads(content))
        self.gets.append(path)
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/orders":
            return 200, self._list(query)
        order_id = parts.path.rpartition("/")[2]
        with suppress(TimeoutError):
            async with asyncio.timeout(float(query.get("wait", 0))):
                await self._ended[order_id].wait()
        return 200, self.orders[order_id]

    def _place(self, key: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.posts += 1
        if self.refuse:
            self.refuse -= 1
            return 503, {"title": "busy"}
        order_id = self.by_key.setdefault(key, f"{len(self.orders):032x}")
        if order_id not in self.orders:
            self.orders[order_id] = {"id": order_id, "status": "PENDING", "reason": None, "refund": "none", **body}
            self._ended[order_id] = asyncio.Event()
            if self.delay_s is not None:
                asyncio.get_running_loop().call_later(self.delay_s, self.end, order_id)
        if self.cut:
            self.cut -= 1
            return 0, None
        return 201, self.orders[order_id]

    def _list(self, query: dict[str, str]) -> dict[str, Any]:
        found = [order for order in reversed(self.orders.values()) if order["status"] == query.get("status")]
        found = [order for order in found if order["id"] < query.get("cursor", "g")]
        page = found[: int(query["limit"])]
        return {"orders": page, "next": page[-1]["id"] if len(found) > len(page) else None}


@asynccontextmanager
async def order_server(server: OrderServer) -> AsyncIterator[OrderServer]:
    """Serve on a free port of 127.0.0.1."""
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await server.hang_up()


@contextmanager
def in_thread(server: OrderServer) -> Iterator[str]:
    """Serve in a thread of its own, so that the main thread is free for signals; yields the URL."""
    ready: Future[str] = Future()
    ending = threading.Event()

    async def serve() -> None:
        async with order_server(server):
            ready.set_result(server.url)
            await asyncio.to_thread(ending.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        yield ready.result(timeout=60)
    finally:
        ending.set()
        thread.join()
