"""Steering in a real browser: money settled by hand, a replay paused and resumed, an outage overruled, an audit."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from orderflow.bank import REFUND_FAILS
from tests.browser.conftest import PATIENCE_MS
from tests.browser.test_letters import clear_faults, poison
from tests.e2e.shop import VISA, Shop
from tests.e2e.system import System
from tests.support.waiting import eventually

LONG_MS = 180_000
PRICE = 590


async def test_a_refund_that_the_bank_refuses_is_settled_by_hand_and_only_once(
    context: BrowserContext, shop: Shop
) -> None:
    order_id = await shop.place("SKU-SOLD-OUT", method=REFUND_FAILS)
    tabs = [await context.new_page(), await context.new_page()]
    for tab in tabs:
        await tab.goto(f"/orders/{order_id}")
        settle = tab.get_by_role("region", name="Settle it by hand")
        await settle.get_by_label("What happened to the money").select_option("The customer has the money back")
        await settle.get_by_label("Reason").fill("bank transfer 88")
    first, second = tabs
    form = first.get_by_role("region", name="Settle it by hand").locator("form")
    asked = {name: await form.locator(f"[name={name}]").input_value() for name in ("token", "seen")}
    await first.get_by_role("button", name="Settle it").click()
    await expect(first.get_by_role("status").filter(has_text="the money was given back")).to_be_visible()
    await expect(first.get_by_role("region", name="Settle it by hand")).to_have_count(0)
    assert (await shop.end_of(order_id))["refund"] == "done"

    await expect(second.get_by_role("status").filter(has_text="the money was given back")).to_be_visible()
    await expect(second.get_by_role("button", name="Settle it")).to_have_count(0)
    late = await context.request.post(
        f"/orders/{order_id}/settle",
        form={**asked, "outcome": "refunded", "reason": "too late"},
        headers={"sec-fetch-site": "same-origin"},
    )
    assert (late.status, "The payment is REFUNDED now; it was REFUND_REFUSED" in await late.text()) == (409, True)
    await first.goto("/health")
    log = first.get_by_role("region", name="Operators' log")
    await expect(log.get_by_role("row").filter(has_text=order_id)).to_have_count(1)
    await expect(log.get_by_role("row").filter(has_text=order_id)).to_contain_text("bank transfer 88")


@asynccontextmanager
async def bank_that_took_the_money_and_does_not_say_so(system: System, shop: Shop) -> AsyncIterator[str]:
    """Its book has the charge of an order, whose id this is, and is locked: who asks gets no answer in time."""
    book = await asyncpg.connect(system.settings().service_database_url("bank"))
    try:
        async with book.transaction():
            await book.execute("LOCK TABLE bank_charges")
            order_id = await shop.place("SKU-ESPRESSO-CUP", method=VISA)
            charge = (f"charge:{order_id}", order_id, PRICE, "EUR", VISA, "ch_untold")
            await book.execute(
                "INSERT INTO bank_charges (key, order_id, amount, currency, payment_method, reference)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                *charge,
            )
            yield order_id
    finally:
        await book.close()


async def signed_in(browser: Browser, system: System, role: str) -> Page:
    """As who has this role alone, and is called after it."""
    made = system.command("token", "create", f"curie-{role}", "--role", role, "--json")
    assert made.returncode == 0, made.stderr
    context = await browser.new_context(base_url=system.url("console"), reduced_motion="reduce")
    page = await context.new_page()
    await page.goto("/sign-in")
    await page.get_by_label("Token", exact=True).fill(json.loads(made.stdout)["token"])
    await page.get_by_role("button", name="Sign in").click(timeout=PATIENCE_MS)
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    return page


async def test_a_charge_that_the_bank_leaves_open_is_settled_by_an_approver_and_nobody_else(
    page: Page, browser: Browser, system: System, shop: Shop
) -> None:
    viewer, approver = await signed_in(browser, system, "viewer"), await signed_in(browser, system, "approver")
    async with bank_that_took_the_money_and_does_not_say_so(system, shop) as order_id:
        for each in (page, viewer, approver):
            await each.goto(f"/orders/{order_id}")
        await expect(page.get_by_text("has not said what happened to the charge")).to_be_visible()
        await expect(page.get_by_text("UNKNOWN", exact=True)).to_be_visible()
        for each in (viewer, approver):
            settle = each.get_by_role("region", name="Settle it by hand")
            await expect(settle).to_be_visible()
            await settle.get_by_label("Reason").fill("booked on 12 May, ticket 4711")
        await viewer.get_by_role("button", name="Settle it").click()
        await expect(viewer.get_by_role("alert")).to_contain_text(
            "curie-viewer (viewer) may not do this: it needs the role approver"
        )
        assert (await shop.get("payment", f"/payments/{order_id}"))["status"] == "UNKNOWN"

        await approver.get_by_role("button", name="Settle it").click()
        for each in (approver, viewer, page):
            await expect(each.get_by_text("The order is complete")).to_be_visible()
            await expect(each.get_by_role("region", name="Settle it by hand")).to_have_count(0)
        assert (await shop.end_of(order_id))["status"] == "COMPLETED"
    await page.goto("/health")
    log = page.get_by_role("region", name="Operators' log").get_by_role("row").filter(has_text=order_id)
    await expect(log).to_have_count(1)
    await expect(log).to_contain_text("curie-approver")
    await expect(log).to_contain_text("booked on 12 May, ticket 4711")


async def test_a_canary_is_watched_paused_and_resumed(page: Page, system: System, shop: Shop) -> None:
    system.command("dlt", "discard", "--all", "--yes", "--reason", "left by other tests")
    poison(system, 6)
    orders = [await shop.place("SKU-ESPRESSO-CUP", quantity=6) for _ in range(3)]
    await page.goto("/dead-letters")
    row = page.get_by_role("row").filter(has_text="quantity=6")

    async def given_up() -> bool:
        await shop.place("SKU-ESPRESSO-CUP")  # while others succeed, it is no outage, and attempts are used up
        return await row.count() == 1 and await row.get_by_role("cell").first.text_content() == "3"

    await eventually(given_up, timeout_s=LONG_MS / 1000, every_s=1.0)
    await clear_faults(page)
    await page.goto("/dead-letters")
    await row.get_by_role("link").click()
    await page.wait_for_url("**/dead-letters/payment?*")
    await page.get_by_label(re.compile("^Reason")).first.fill("the fault is gone")
    await page.get_by_label("At most per second").fill("0.05")
    await page.get_by_role("button", name="Replay").click()

    await page.wait_for_url(re.compile(r"/replays/payment/\d+"))
    progress = page.get_by_role("region", name="Progress")
    await expect(progress).to_contain_text("running")
    await progress.get_by_role("button", name="Pause").click()
    await expect(progress.get_by_role("button", name="Pause")).to_have_count(0)
    await expect(progress).to_contain_text(re.compile(r"paused\s+[0-2] of 3 have an outcome, step"))
    await progress.get_by_label("Reason").fill("looked at the first one")
    await progress.get_by_role("button", name="Resume").click()
    await expect(progress.get_by_role("button", name="Resume")).to_have_count(0)
    await expect(progress).to_contain_text("running")
    await expect(page.get_by_text("All of them were handled")).to_be_visible(timeout=LONG_MS)
    await expect(progress).to_contain_text("3 of 3 have an outcome")
    assert {each["status"] for each in await shop.ends_of(orders)} == {"COMPLETED"}


async def test_an_outage_is_overruled_while_its_evidence_changes(page: Page, system: System, shop: Shop) -> None:
    poison(system, 5)
    for _ in range(9):
        await shop.place("SKU-ESPRESSO-CUP", quantity=5)
    await page.goto("/health")
    outages = page.get_by_role("region", name="Outages")
    judged = outages.get_by_role("article").filter(has_text="outage")
    await expect(judged.first).to_contain_text("failed alike")
    await judged.first.get_by_text("Overrule it").click()
    form = judged.first.get_by_role("group")
    await form.get_by_label("Reason").fill("they are forged")
    await form.get_by_label("They are").select_option("poison")
    shown = await judged.first.get_by_role("paragraph").first.text_content()
    await expect(judged.first.get_by_role("paragraph").first).not_to_have_text(shown or "")
    await expect(form.get_by_label("Reason")).to_have_value("they are forged")
    await form.get_by_role("button", name="Overrule for an hour").click()
    await expect(outages).to_contain_text("they are forged")
    await expect(outages).to_contain_text("Declared poison")
    await clear_faults(page)


async def test_who_has_gone_on_is_not_fetched_back_by_a_late_answer(page: Page) -> None:
    acted, answered = asyncio.Event(), asyncio.Event()

    async def late(route: Route) -> None:
        acted.set()
        await answered.wait()
        await route.fulfill(status=204, headers={"hx-redirect": "/health"})

    async def slow(route: Route) -> None:
        async with page.expect_event("requestfinished", lambda request: request.method == "POST"):
            answered.set()
        await route.continue_()

    await page.goto("/health")
    await page.get_by_text("Make events fail on purpose").click()
    await page.route("**/health/faults", late)
    await page.route("**/orders", slow)
    await page.get_by_role("button", name="Set the fault").click()
    await acted.wait()
    await page.get_by_role("link", name="Orders", exact=True).click()

    await expect(page.get_by_role("heading", level=1, name="Orders")).to_be_visible()


async def test_the_books_are_checked_from_the_page(page: Page, shop: Shop) -> None:
    await shop.end_of(await shop.place("SKU-ESPRESSO-CUP"))
    await page.goto("/health")
    audit = page.get_by_role("region", name="Audit")
    await audit.get_by_role("button", name="Check the books").click()
    await expect(audit).to_contain_text(re.compile(r"(orders and .* records were compared|findings among)"))
    await expect(audit.get_by_role("term").filter(has_text="COMPLETED")).to_be_visible()
