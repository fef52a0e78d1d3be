"""Orders in a real browser: placed and watched, found, seen in every tab."""

from __future__ import annotations

import asyncio
import re

from playwright.async_api import BrowserContext, Page, expect

from tests.e2e.shop import Shop
from tests.e2e.system import System

ORDER = re.compile(r"/orders/[0-9a-f-]{36}$")


async def test_an_order_is_placed_and_watched_to_its_end(page: Page) -> None:
    await page.goto("/")
    await page.get_by_role("link", name="Place a test order").click()
    form = page.get_by_role("dialog", name="Place a test order")
    await form.get_by_label("Customer", exact=True).fill("grace")
    await form.get_by_role("button", name="Place the order").click()

    await page.wait_for_url(ORDER)
    await expect(page.get_by_role("status").filter(has_text="The order is complete")).to_be_visible()
    timeline = page.get_by_role("list").filter(has_text="PENDING")
    for said in (
        "payment handled: OrderPlaced",
        "inventory handled: PaymentSucceeded",
        "COMPLETED, by StockReserved",
    ):
        await expect(timeline.get_by_text(said)).to_be_visible()
    await expect(page.get_by_text("is complete and will be sent to you")).to_be_visible()
    records = page.get_by_role("region", name="Records in the topics")
    for event in ("OrderPlaced", "PaymentSucceeded", "StockReserved"):
        await expect(records.get_by_text(event, exact=True)).to_be_visible()
    told = await (await page.request.get(f"{page.url}/explanation")).json()
    assert told["causes"] == []
    await expect(page.get_by_text(f"Trace {told['trace_id']}")).to_be_visible()


async def test_what_does_not_fit_is_said_beside_the_form(page: Page) -> None:
    await page.goto("/orders")
    await page.get_by_role("button", name="Place a test order").click()
    form = page.get_by_role("dialog", name="Place a test order")
    await form.get_by_label("Unit price").fill("a lot")
    await form.get_by_role("button", name="Place the order").click()

    await expect(form.get_by_role("alert")).to_have_text("The price must be an amount, such as 5.90.")
    await form.get_by_label("Unit price").fill("5.90")
    await form.get_by_label("Quantity").fill("0")
    await form.get_by_role("button", name="Place the order").click()
    await expect(form.get_by_role("alert")).to_contain_text("/items/0/quantity")


async def test_an_order_is_found_by_id_customer_and_sku(page: Page, shop: Shop) -> None:
    await shop.stock("SKU-RARE", 5)
    order_id = await shop.place("SKU-RARE", customer="lovelace")
    await shop.end_of(order_id)
    short = order_id[-8:]

    await page.goto("/orders")
    await page.get_by_label("Order id or customer").fill("lovelace")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/orders?q=lovelace*")
    await expect(page.get_by_role("link", name=short)).to_be_visible()
    await page.goto("/orders?sku=SKU-RARE")
    await expect(page.get_by_role("link", name=short)).to_be_visible()
    await page.goto("/orders?sku=SKU-NOBODY-HAS")
    await expect(page.get_by_text("Nothing found here")).to_be_visible()
    await page.keyboard.press("/")
    await page.keyboard.type(short)
    await page.get_by_label("SKU", exact=True).first.fill("")
    await page.get_by_role("button", name="Search").click()
    await page.wait_for_url(f"**/orders/{order_id}")


async def test_two_tabs_see_an_order_come_by_themselves(context: BrowserContext, shop: Shop) -> None:
    tabs = [await context.new_page(), await context.new_page()]
    for tab in tabs:
        await tab.goto("/orders")
    order_id = await shop.place("SKU-ESPRESSO-CUP", customer="hopper")

    for tab in tabs:
        row = tab.get_by_role("row").filter(has=tab.get_by_role("link", name=order_id[-8:]))
        await expect(row).to_contain_text("COMPLETED")


async def demonstrate(system: System, seen: asyncio.Event) -> None:
    """Orders flow until everything was seen, however long that takes on this machine."""
    while not seen.is_set():
        done = await asyncio.to_thread(system.command, "demo", "--orders", "200", "--rate", "40")
        assert done.returncode == 0, done.stderr


async def test_the_flow_moves_while_the_demo_runs(page: Page, system: System) -> None:
    await page.goto("/")
    placed = page.get_by_role("link", name=re.compile("Placed .* per second"))
    await expect(placed).to_be_visible()
    seen = asyncio.Event()
    demo = asyncio.create_task(demonstrate(system, seen))

    await expect(placed).to_have_accessible_name(re.compile(r"Placed [1-9]"))
    for topic, consumer in (("order-events", "payment"), ("payment-status", "order"), ("inventory-status", "order")):
        row = (
            page.get_by_role("row")
            .filter(has_text=topic)
            .filter(has=page.get_by_role("cell", name=consumer, exact=True))
        )
        await expect(row.get_by_role("cell").nth(2)).to_have_text(re.compile(r"^[1-9]"))
    succeeded = page.get_by_role("row").filter(has_text="PaymentSucceeded")
    await expect(succeeded).to_have_text(re.compile(r"PENDING.*PAID.*[1-9]"))
    seen.set()
    await demo


async def test_a_service_that_is_killed_is_seen_to_fall_and_to_come_back(page: Page, system: System) -> None:
    await page.goto("/health")
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name="notification", exact=True)).first
    await expect(row.get_by_text("ready", exact=True)).to_be_visible()
    before = system.process("notification")
    system.kill("notification")

    await expect(row.get_by_role("cell").last).to_have_text(str(before.restarts + 1))
    await expect(row.get_by_text("ready", exact=True)).to_be_visible()
    await expect(row.get_by_role("cell", name=str(before.pid), exact=True)).to_have_count(0)
    await expect(page.get_by_role("banner")).to_contain_text("Live")
