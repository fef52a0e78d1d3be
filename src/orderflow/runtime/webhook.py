"""One receiver of webhooks, as the Standard Webhooks specification has it (standardwebhooks.com)."""

from __future__ import annotations

import asyncio
import hmac
from base64 import b64encode
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx2

from orderflow.messaging.clock import Clock

CONNECT_S = 3.0
ANSWER_S = 10.0
RETRY_AFTER_MAX_S = 600.0
_OF_ITSELF = frozenset({429, 503})
_TRY_AGAIN = frozenset({408, 425, 429})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class NotTakenError(Exception):
    """The receiver did not take the message. `final`: it never will. `after_s`: when it wants to be asked again;
    `busy`: with anything, not with this message alone (429 and 503, RFC 6585 and RFC 9110).
    """

    def __init__(self, why: str, *, final: bool, after_s: float = 0.0, busy: bool = False) -> None:
        super().__init__(why)
        self.final = final
        self.after_s = after_s
        self.busy = busy


class Webhook:
    """Posts JSON to `url`; with a `key` each message is signed. The url may hold secrets: no error names it."""

    def __init__(self, url: str, key: bytes | None, clock: Clock) -> None:
        self._url = url
        self._key = key
        self._clock = clock
        # A proxy of the surroundings is for the world outside, not for this machine.
        outside = urlsplit(url).hostname not in _LOOPBACK
        self._http = httpx2.AsyncClient(timeout=httpx2.Timeout(ANSWER_S, connect=CONNECT_S), trust_env=outside)

    async def post(self, message_id: str, body: bytes) -> None:
        """One attempt. The same `message_id` is the same message, whenever it is posted. Raises NotTakenError."""
        headers = {
            "content-type": "application/json",
            "user-agent": "orderflow",
            **signed(message_id, self._clock.wall_ms() // 1000, body, self._key),
        }
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                self._http.stream("POST", self._url, content=body, headers=headers) as reply,
            ):
                status, after = reply.status_code, reply.headers.get("retry-after", "")
        except (httpx2.HTTPError, TimeoutError, OSError) as error:
            raise NotTakenError(type(error).__name__, final=False) from error
        if not 200 <= status < 300:
            final = status < 500 and status not in _TRY_AGAIN
            after_s = self._seconds(after)
            busy = after_s > 0 and status in _OF_ITSELF
            raise NotTakenError(f"HTTP {status}", final=final, after_s=after_s, busy=busy)

    async def close(self) -> None:
        await self._http.aclose()

    def _seconds(self, retry_after: str) -> float:
        """Until the moment that the header names (RFC 9110, 10.2.3: seconds, or a date); 0 if it names none. It is no
        more than RETRY_AFTER_MAX_S: who waits for the news of a dead letter does not wait for hours.
        """
        if retry_after.isascii() and retry_after.isdigit():
            return min(float(retry_after[:9]), RETRY_AFTER_MAX_S)
        try:
            moment = parsedate_to_datetime(retry_after)
        except ValueError:
            return 0.0
        wait_s = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - self._clock.wall_ms() / 1000
        return min(max(0.0, wait_s), RETRY_AFTER_MAX_S)


def signed(message_id: str, timestamp_s: int, body: bytes, key: bytes | None) -> dict[str, str]:
    """The headers of one attempt; without a `key` there is no signature."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp_s)}
    if key is not None:
        content = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
        headers["webhook-signature"] = f"v1,{b64encode(hmac.digest(key, content, 'sha256')).decode()}"
    return headers
