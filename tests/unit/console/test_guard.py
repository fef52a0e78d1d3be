"""What stands before the page: hosts, origins, tokens, the content policy."""

from __future__ import annotations

import pytest

from orderflow.console.guard import COOKIE, Event, Guard, Receive, Scope, Send, is_confirmed
from orderflow.console.sessions import Sessions

HOST = "127.0.0.1:8000"
OURS = {"host": HOST, "origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}


class Answer:
    """What came of one request; `seen` is the scope that the application got, if it got one."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.seen: Scope | None = None


class Application:
    """Answers every request with 200; `seen` is the last scope that it got."""

    def __init__(self) -> None:
        self.seen: Scope | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen = scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Page:
    """An application behind its guard."""

    def __init__(self) -> None:
        self.application = Application()
        self.guard = Guard(self.application, [HOST], Sessions())


async def ask(page: Page | None, method: str, headers: dict[str, str]) -> Answer:
    answer, page = Answer(), page or Page()
    page.application.seen = None

    async def receive() -> Event:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: Event) -> None:
        if event["type"] == "http.response.start":
            answer.status = event["status"]
            answer.headers = {name.decode(): value.decode() for name, value in event["headers"]}

    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    await page.guard({"type": "http", "method": method, "path": "/", "headers": fields}, receive, send)
    answer.seen = page.application.seen
    return answer


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:8001", "127.0.0.1:8000.evil.example", ""])
async def test_another_host_is_refused(host: str) -> None:
    answer = await ask(None, "GET", {"host": host})
    assert (answer.status, answer.seen) == (421, None)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": HOST},
        {"host": HOST, "origin": "http://evil.example"},
        {"host": HOST, "origin": "null"},
        {"host": HOST, "sec-fetch-site": "cross-site"},
        {"host": HOST, "sec-fetch-site": "same-site", "origin": f"http://{HOST}"},
        {"host": HOST, "sec-fetch-site": "none"},
    ],
)
async def test_what_changes_something_must_come_from_our_own_page(headers: dict[str, str]) -> None:
    answer = await ask(None, "POST", headers)
    assert (answer.status, answer.seen) == (403, None)
    assert (await ask(None, "POST", OURS)).status == 200


async def test_a_token_is_good_for_its_session_alone() -> None:
    page = Page()
    first, other = await ask(page, "GET", {"host": HOST}), await ask(page, "GET", {"host": HOST})
    assert first.seen
    assert other.seen
    session = first.headers["set-cookie"].partition(";")[0]
    again = await ask(page, "POST", {**OURS, "cookie": session})
    assert again.seen
    assert is_confirmed(again.seen, first.seen["state"]["token"])
    assert not is_confirmed(again.seen, other.seen["state"]["token"])
    assert not is_confirmed(again.seen, "")
    assert not is_confirmed(again.seen, "é")


async def test_a_cookie_of_another_form_is_no_session() -> None:
    answer = await ask(None, "GET", {"host": HOST, "cookie": f'{COOKIE}="a\\012set-cookie: x"'})
    assert "\n" not in answer.headers["set-cookie"]
    assert answer.headers["set-cookie"].startswith(f"{COOKIE}=")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=Strict" in answer.headers["set-cookie"]


async def test_each_answer_has_a_policy_with_a_nonce_of_its_own() -> None:
    first, second = await ask(None, "GET", {"host": HOST}), await ask(None, "GET", {"host": HOST})
    assert first.headers["content-security-policy"] != second.headers["content-security-policy"]
    for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
        assert part in first.headers["content-security-policy"]
    assert "unsafe" not in first.headers["content-security-policy"]
    assert first.headers["x-content-type-options"] == "nosniff"
