"""Dead letters in a real browser: a poison order is rehearsed and replayed; another is edited, and given up."""

from __future__ import annotations

import re

from playwright.async_api import Page, expect

from tests.e2e.shop import Shop
from tests.e2e.system import System

LETTER = re.compile(r"/dead-letters/payment/\d+$")


def poison(system: System, quantity: int) -> None:
    """Let the payment service fail on the orders of so many units."""
    done = system.command(
        *("fault", "add", "payment", "--event", "OrderPlaced", "--match", f"quantity={quantity}"),
        *("--error", "permanent"),
    )
    assert done.returncode == 0, done.stderr


async def clear_faults(page: Page) -> None:
    """By the page."""
    await page.goto("/health")
    rows = page.locator("tr[id^=fault-]")
    await expect(rows.first).to_be_visible()
    for name in await rows.evaluate_all("rows => rows.map(row => row.id)"):
        row = page.locator(f"tr[id='{name}']")
        await row.get_by_role("button", name="Clear").click()
        await expect(row).to_have_count(0)


async def test_a_poison_order_is_triaged_rehearsed_and_replayed(page: Page, system: System, shop: Shop) -> None:
    poison(system, 7)
    order_id = await shop.place("SKU-ESPRESSO-CUP", quantity=7)

    await page.goto("/dead-letters")
    await page.get_by_role("row").filter(has_text="quantity=7").get_by_role("link").click()
    await page.wait_for_url("**/dead-letters/payment?*")
    await page.get_by_label("What is known about it").fill("ticket 4711")
    await page.get_by_role("button", name="Save the note").click()
    await expect(page.get_by_text("The note is saved")).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("What is known about it")).to_have_value("ticket 4711")
    letters = page.get_by_role("region", name="Events")
    await letters.get_by_role("row").filter(has_text=order_id[-8:]).get_by_role("link", name="payment").click()
    await page.wait_for_url(LETTER)
    await expect(page.get_by_role("heading", name="OrderPlaced")).to_be_visible()
    await expect(page.get_by_text("attempt 6")).to_be_visible()
    letter = page.url

    await page.get_by_role("button", name="Rehearse").click()
    await expect(page.get_by_role("heading", name="Rehearsed")).to_be_visible()
    await expect(page.get_by_text("fails", exact=True).first).to_be_visible()

    await clear_faults(page)
    await page.goto(letter)
    await page.get_by_role("button", name="Rehearse").click()
    await expect(page.get_by_text("succeeds", exact=True).first).to_be_visible()
    await expect(page.get_by_text(f"charge:{order_id}")).to_be_visible()
    await expect(page.get_by_role("region", name="Rows that would change")).to_contain_text("CHARGING")

    await page.get_by_label(re.compile("^Reason")).first.fill("the fault is gone")
    await page.get_by_role("button", name="Replay").click()
    await page.wait_for_url(re.compile(r"/replays/payment/\d+"))
    await expect(page.get_by_text("All of them were handled")).to_be_visible()
    assert (await shop.end_of(order_id))["status"] == "COMPLETED"
    await page.goto("/health")
    log = page.get_by_role("region", name="Operators' log")
    await expect(log.get_by_role("row").filter(has_text="the fault is gone").first).to_contain_text("replay")


async def test_an_edit_is_shown_before_it_is_stored_and_a_letter_given_up(
    page: Page, system: System, shop: Shop
) -> None:
    poison(system, 8)
    order_id = await shop.place("SKU-ESPRESSO-CUP", quantity=8)
    await page.goto(f"/orders/{order_id}")
    await expect(page.get_by_role("status").filter(has_text="it was given up after 6 tries")).to_be_visible()
    await page.get_by_role("link", name="See the event").click()
    await page.wait_for_url(LETTER)

    await page.get_by_text("Edit the payload").click()
    payload = page.get_by_label("New payload")
    await payload.fill((await payload.input_value()).replace("pm_card_visa", "pm_card_amex"))
    await page.get_by_role("button", name="Show the difference").click()
    change = page.get_by_role("region", name="What would change").get_by_role("row").filter(has_text="payment_method")
    await expect(change).to_contain_text("pm_card_amex")
    store = page.locator("#preview")
    await store.get_by_label("Reason").fill("the card was mistyped")
    await store.get_by_role("button", name="Store it").click()
    await expect(page.get_by_text("As it came in")).to_be_visible()
    await page.wait_for_load_state()
    await expect(page.get_by_role("list").filter(has_text="edited")).to_be_visible()

    await page.get_by_text("Copy as a test").click()
    await expect(page.get_by_text("def test_payment_handles_order_placed()")).to_be_visible()

    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_label("Reason", exact=True).last.fill("a test of the page")
    await page.get_by_role("button", name="Discard").click()
    await page.wait_for_url("**/dead-letters")
    await clear_faults(page)


async def test_the_demo_leaves_orders_to_explain(page: Page, system: System) -> None:
    done = system.command("demo", "--orders", "60", "--faults", "--timeout", "120")
    assert done.returncode == 0, done.stderr
    assert "orders are stuck, on purpose" in done.stdout
    await page.goto("/dead-letters")
    faulty = page.get_by_role("row").filter(has_text="InjectedFaultError").first
    await expect(faulty).to_be_visible()
    assert system.command("fault", "clear", "--all").returncode == 0
