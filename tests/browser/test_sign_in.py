"""Whoever reaches the page may look. To act, a browser shows a token, whose roles say what it may do."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
from playwright.async_api import Browser, expect

from orderflow.console.sessions import link
from tests.e2e.system import System

DISCARD = "/dead-letters/order/999999/discard"


class Tab:
    """A browser's tab, as far as the page can tell."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.AsyncClient(base_url=url, headers={"origin": url, "sec-fetch-site": "same-origin"})

    async def close(self) -> None:
        await self._http.aclose()

    async def post(self, path: str, **said: str) -> httpx2.Response:
        shown = (await self._http.get("/sign-in")).text
        [token, *_] = re.findall(r'name="token" value="([0-9a-f]+)"', shown)
        return await self._http.post(path, data={"token": token, **said})


@pytest.fixture
async def tab(system: System) -> AsyncIterator[Tab]:
    opened = Tab(system.url("console"))
    yield opened
    await opened.close()


def token_of(system: System, role: str) -> str:
    made = system.command("token", "create", f"a {role}", "--role", role, "--json")
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["token"])


async def test_who_has_not_signed_in_may_not_act(tab: Tab) -> None:
    refused = await tab.post(DISCARD, reason="I may")
    assert refused.status_code == 401
    assert "Sign in to do this" in refused.text
    assert 'href="/sign-in?next=' in refused.text


async def test_the_roles_of_the_token_hold(tab: Tab, system: System) -> None:
    viewer, operator = token_of(system, "viewer"), token_of(system, "operator")
    assert (await tab.post("/sign-in", shown="of_nobody_knows")).status_code == 401

    assert (await tab.post("/sign-in", shown=viewer)).status_code == 303
    assert (await tab.post(DISCARD, reason="I may")).status_code == 403

    assert (await tab.post("/sign-in", shown=operator)).status_code == 303
    assert (await tab.post(DISCARD, reason="I may")).status_code == 404

    assert (await tab.post("/sign-out")).status_code == 303
    assert (await tab.post(DISCARD, reason="I may")).status_code == 401


async def test_a_link_signs_in_once_and_leads_back(browser: Browser, system: System) -> None:
    context = await browser.new_context(base_url=system.url("console"))
    page = await context.new_page()
    await page.goto("/dead-letters")
    await page.get_by_role("link", name="Sign in").click()
    await expect(page.get_by_text("orderflow console --sign-in")).to_be_visible()

    said = system.command("console", "--sign-in")
    assert said.returncode == 0, said.stderr
    assert system.token() not in said.stdout
    await page.goto(said.stdout.strip())
    await page.get_by_role("button", name="Sign in").first.click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()

    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("link", name="Sign in")).to_be_visible()
    await page.goto(said.stdout.strip())
    await page.get_by_role("button", name="Sign in").first.click()
    await expect(page.get_by_text("used before")).to_be_visible()

    await page.goto(link(system.url("console"), "of_another_home", time.time()))
    await page.get_by_role("button", name="Sign in").first.click()
    await expect(page.get_by_text("used before")).to_be_visible()
    await context.close()
