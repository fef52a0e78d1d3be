"""A receiver of webhooks: a real HTTP server on this machine, that answers what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Message:
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Answers with the next of `answers` (status line and headers), at the end with 204; "" never answers. Whatever
    holds `refused` in its body is always answered with `refusal`.
    """

    url: str = ""
    answers: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    refused: bytes | None = None
    refusal: str = ""
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.messages.append(Message(headers, body))
        answer = self._answer_to(body)
        if answer:
            writer.write(f"HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            await writer.drain()
            self.close(writer)

    def _answer_to(self, body: bytes) -> str:
        if self.refused is not None and self.refused in body:
            return self.refusal
        return self.answers.pop(0) if self.answers else "204 No Content"

    def close(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        writer.close()

    def close_all(self) -> None:
        for writer in list(self._open):
            self.close(writer)


@asynccontextmanager
async def receiving(*answers: str) -> AsyncIterator[Receiver]:
    receiver = Receiver(answers=list(answers))
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        receiver.close_all()
        server.close()
        await server.wait_closed()
