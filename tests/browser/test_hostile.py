"""What comes from outside is text: attacks through every field of orders, records and errors run no script."""

from __future__ import annotations

import json
from urllib.parse import quote
from uuid import uuid4

import httpx2
from playwright.async_api import Dialog, Page, expect

from orderflow.cli.topic import open_log
from orderflow.core.transport import ProducerRecord
from tests.e2e.shop import Shop
from tests.e2e.system import System

CORPUS = (
    "<script>window.hit=1</script>",
    '"><img src=x onerror=window.hit=1>',
    "'-alert(1)-'",
    "</pre></textarea><svg onload=window.hit=1>",
    "javascript:window.hit=1",
    "{{7*7}}${window.hit=1}",
    "<div hx-get=/health hx-trigger=load>",
    "\u202eevil\u2066",
)
CUSTOMERS = [each for each in CORPUS if each.isprintable()]


async def test_no_field_of_an_order_a_record_or_an_error_runs_a_script(
    page: Page, system: System, shop: Shop
) -> None:
    dialogs: list[str] = []

    async def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        await dialog.dismiss()

    page.on("dialog", dismiss)
    orders = [await shop.place("SKU-ESPRESSO-CUP", customer=each, method=each[:64]) for each in CUSTOMERS]
    await shop.ends_of(orders)
    await append_hostile_records(system)
    fault = ("fault", "add", "payment", "--event", "OrderPlaced", "--error", "permanent")
    assert system.command(*fault, "--match", f"payment_method={CORPUS[1][:64]}").returncode == 0
    await shop.place("SKU-ESPRESSO-CUP", customer=CORPUS[1], method=CORPUS[1][:64])

    places = ["/", "/orders", "/dead-letters", "/health", *(f"/orders/{each}" for each in orders)]
    places += [f"/orders?{name}={quote(each)}" for each in CORPUS for name in ("q", "sku", "status", "cursor")]
    places += [f"/dead-letters?state={quote(each)}" for each in CORPUS]
    for place in places:
        await look(page, place)
    await page.goto("/dead-letters")
    await expect(
        page.get_by_role("row")
        .filter(has_text="UndecodableError")
        .or_(page.get_by_role("row").filter(has_text="onerror"))
        .first
    ).to_be_visible()
    for href in await hrefs(page, "/dead-letters/payment?"):
        await page.goto(href)
        for letter in (await hrefs(page, "/dead-letters/payment/"))[:12]:
            await look(page, letter)

    assert dialogs == []
    assert system.command("fault", "clear", "--all").returncode == 0


async def look(page: Page, place: str) -> None:
    """Open everything on the page; no script of theirs has run, and no element of theirs is there."""
    await page.goto(place)
    await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert await page.evaluate("window.hit") is None, place
    assert await page.locator("img, [onerror], [onload], [hx-get='/health'], main script").count() == 0, place
    assert await page.locator("a[href^='javascript:']").count() == 0, place


async def hrefs(page: Page, start: str) -> list[str]:
    links = await page.locator(f"a[href^='{start}']").evaluate_all(
        "all => all.map(each => each.getAttribute('href'))"
    )
    return [str(link) for link in links]


async def append_hostile_records(system: System) -> None:
    """Records that nobody can read, with attacks in key, value, and names and values of headers."""
    async with open_log(system.settings()) as log:
        await log.append(
            [
                ProducerRecord("order-events", each.encode(), json.dumps({each: each}).encode(), headers_of(each))
                for each in CORPUS
            ]
        )


def headers_of(attack: str) -> tuple[tuple[str, bytes], ...]:
    names = ("ce_id", "ce_source", "ce_subject", "traceparent", attack)
    return (("ce_type", b"orderflow.OrderPlaced.v1"), *((name, attack.encode()) for name in names))


def test_others_cannot_make_the_page_act(system: System) -> None:
    url = system.url("console")
    order = {"customer_id": "eve", "currency": "EUR", "sku": "SKU-ESPRESSO-CUP", "quantity": "1", "price": "5.90"}
    with httpx2.Client(base_url=url, trust_env=False) as client:
        page = client.get("/orders")
        token = page.text.partition('name="token" value="')[2].partition('"')[0]
        assert len(token) == 64
        ours = {"origin": url, "sec-fetch-site": "same-origin"}
        paid = {**order, "payment_method": "pm_card_visa", "key": str(uuid4())}

        answers = {
            "no token": client.post("/orders", data=paid, headers=ours),
            "another's token": client.post("/orders", data={**paid, "token": "0" * 64}, headers=ours),
            "another origin": client.post(
                "/orders", data={**paid, "token": token}, headers={"origin": "https://evil.example"}
            ),
            "another site": client.post(
                "/orders", data={**paid, "token": token}, headers={"sec-fetch-site": "cross-site"}
            ),
            "no origin": client.post("/orders", data={**paid, "token": token}),
        }
        rebound = client.get("/orders", headers={"host": "evil.example"})
        placed = client.post("/orders", data={**paid, "token": token}, headers=ours)

    assert {why: answer.status_code for why, answer in answers.items()} == dict.fromkeys(answers, 403)
    assert rebound.status_code == 421
    assert placed.status_code == 303
    policy = page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src 'nonce-" in policy
