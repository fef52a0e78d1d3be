"""One running system with its page, and a real browser that looks at it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

from orderflow.console.sessions import link
from tests.e2e.shop import Shop, shopping
from tests.e2e.system import System, running

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PATIENCE_MS = 60_000
REFUSED_ON_PURPOSE = "Failed to load resource"
"""What a browser says of every answer of 4xx and 5xx."""


@pytest.fixture(scope="session")
def chromium() -> str:
    """A browser of this machine."""
    named = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    if named is None:
        pytest.skip("no Chromium: install it (apt-get install chromium), or name it in CHROMIUM")
    return named


@pytest.fixture(scope="session")
def system(chromium: str) -> Iterator[System]:
    """On a game day, with its page at any free port."""
    environment = {"ORDERFLOW_CONSOLE": "true", "ORDERFLOW_CONSOLE_PORT": "0"}
    yield from running(System(options=("--game-day",), environment=environment))


@pytest.fixture
async def shop(system: System) -> AsyncIterator[Shop]:
    async with shopping(system) as shop:
        yield shop


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def context(browser: Browser, system: System) -> AsyncIterator[BrowserContext]:
    """Whatever a page complains of (a script that was blocked, an error in one of ours) fails the test."""
    expect.set_options(timeout=PATIENCE_MS)
    context = await browser.new_context(base_url=system.url("console"), reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error" and REFUSED_ON_PURPOSE not in message.text:
            complaints.append(message.text)

    await _sign_in(context, system)
    context.on("console", listen)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield context
    await context.close()
    assert complaints == []


async def _sign_in(context: BrowserContext, system: System) -> None:
    page = await context.new_page()
    await page.goto(link(system.url("console"), system.token(), time.time()))
    await page.get_by_role("button", name="Sign in").first.click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    await page.close()


@pytest.fixture
async def page(context: BrowserContext) -> Page:
    return await context.new_page()
