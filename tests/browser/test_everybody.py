"""For everybody: accessible in both themes, on any width, by keyboard, light to load."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import PATIENCE_MS
from tests.browser.test_letters import poison
from tests.e2e.shop import Shop, required
from tests.e2e.system import System
from tests.support.waiting import eventually

WIDTHS = (360, 1280, 3840)
FIRST_VIEW_MAX = 150_000
SERIOUS = frozenset({"serious", "critical"})


@pytest.fixture
async def places(system: System, shop: Shop) -> list[str]:
    """Every kind of page."""
    order_id = await shop.place("SKU-ESPRESSO-CUP")
    await shop.end_of(order_id)
    letter = await dead_letter(system, shop)
    return [
        *("/", "/orders", f"/orders/{order_id}", "/health", "/nowhere"),
        *("/dead-letters", "/dead-letters?state=held", f"/dead-letters/payment?fingerprint={letter['fingerprint']}"),
        *(f"/dead-letters/payment/{letter['position']}", f"/orders/{letter['key']}"),
    ]


async def dead_letter(system: System, shop: Shop) -> dict[str, Any]:
    """One of the payment service, of an order that there is."""

    async def found() -> dict[str, Any] | None:
        page = await shop.get("payment", "/ops/dead-letters?state=dead")
        return next((each for each in page["dead_letters"] if each["error"] == "InjectedFaultError"), None)

    if (there := await found()) is not None:
        return there
    poison(system, 4)
    await shop.place("SKU-ESPRESSO-CUP", quantity=4)
    letter = required(await eventually(found, timeout_s=PATIENCE_MS / 1000))
    assert system.command("fault", "clear", "--all").returncode == 0
    return letter


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_axe_finds_nothing_serious(page: Page, places: list[str], theme: str) -> None:
    await page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    found: dict[str, list[str]] = {}
    for place in places:
        await page.goto(place)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        results = await Axe().run(page)
        found[place] = [
            f"{each['id']}: {[node['html'] for node in each['nodes']][:3]}"
            for each in results.response["violations"]
            if each["impact"] in SERIOUS
        ]

    assert {place: each for place, each in found.items() if each} == {}


async def test_no_page_is_wider_than_its_window(browser: Browser, system: System, places: list[str]) -> None:
    wide: list[tuple[str, int]] = []
    for width in WIDTHS:
        page = await browser.new_page(viewport={"width": width, "height": 900}, base_url=system.url("console"))
        for place in places:
            await page.goto(place)
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
            if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                wide.append((place, width))
        await page.close()

    assert wide == []


async def test_all_of_it_is_reached_by_keyboard(page: Page, system: System) -> None:
    await page.goto("/")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    await page.keyboard.press("Escape")
    for key, place, heading in (
        *(("o", "/orders", "Orders"), ("d", "/dead-letters", "Dead letters")),
        *(("h", "/health", "Health"), ("f", "/", "Flow")),
    ):
        await page.keyboard.press("g")
        await page.keyboard.press(key)
        await page.wait_for_url(system.url("console") + place)
        await expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()


async def test_without_scripts_an_answer_is_a_whole_page(browser: Browser, system: System) -> None:
    context = await browser.new_context(base_url=system.url("console"), java_script_enabled=False)
    page = await context.new_page()
    await page.goto("/health")
    await page.get_by_role("button", name="Check the books").click(timeout=PATIENCE_MS)

    await expect(page.get_by_role("heading", level=1, name="Answer")).to_be_visible(timeout=PATIENCE_MS)
    await expect(page.get_by_role("term").filter(has_text="under way")).to_be_visible()
    await page.get_by_role("link", name="Back").click()
    await expect(page.get_by_role("heading", level=1, name="Health")).to_be_visible()
    await context.close()


async def test_the_first_view_is_light_and_all_of_it_comes_from_here(page: Page, system: System) -> None:
    sizes: dict[str, int] = {}
    session = await page.context.new_cdp_session(page)
    await session.send("Network.enable")
    urls: dict[str, str] = {}
    session.on("Network.responseReceived", lambda event: urls.update({event["requestId"]: event["response"]["url"]}))
    session.on(
        "Network.loadingFinished",
        lambda event: sizes.update({urls[event["requestId"]]: event["encodedDataLength"]}),
    )
    await page.goto("/")
    await expect(page.get_by_role("img", name=re.compile("^Orders placed"))).to_be_visible()

    ours = system.url("console")
    assert [url for url in urls.values() if not url.startswith((ours, "data:"))] == []
    assert any(url.endswith(".js") or ".js?" in url for url in sizes)
    assert sum(size for url, size in sizes.items() if "/live/" not in url) <= FIRST_VIEW_MAX
