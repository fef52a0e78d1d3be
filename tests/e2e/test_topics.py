"""What stands in a topic cannot harm: neither the same records once more, nor what nobody can read."""

from __future__ import annotations

from uuid import uuid4

from orderflow.core.envelopes import header_text
from orderflow.core.transport import ConsumerRecord, ProducerRecord, Transport
from tests.e2e.audit import assert_promises
from tests.e2e.shop import VISA, Shop
from tests.e2e.system import System
from tests.e2e.topics import again, everything_on, transport_of
from tests.support.waiting import eventually

TOPICS = ("order-events", "payment-status", "inventory-status", "flow-status")


async def test_topics_replayed_from_their_start_change_nothing(shop: Shop, system: System) -> None:
    await shop.stock("REPLAY", 100)
    await shop.stock("GONE", 0)
    mix = [("REPLAY", VISA), ("GONE", VISA), ("REPLAY", "pm_card_chargeDeclined")]
    ids = await shop.place_many(mix * 3)
    await shop.ends_of(ids)
    await assert_promises(shop)
    before = await shown(shop, ids)

    async with transport_of(system) as transport:
        for topic in TOPICS:
            records = [each for each in await everything_on(transport, topic) if header_text(each.headers, "ce_id")]
            await transport.append(again(records))
        await assert_promises(shop)

    assert await shown(shop, ids) == before


async def test_a_poison_record_ends_on_the_dead_letter_topic_with_its_bytes_and_all_others_flow(
    shop: Shop, system: System
) -> None:
    await shop.stock("FLOWING", 100)
    key = str(uuid4()).encode()
    poison = [
        ProducerRecord("payment-status", key, b'\xff\x00 not JSON {"', (("ce_type", b"\xfe"), ("odd", b"\x00\x01"))),
        ProducerRecord("payment-status", None, b"", ()),
        ProducerRecord("payment-status", str(uuid4()).encode(), None, (("ce_type", b"orderflow.Unheard.v1"),)),
    ]
    async with transport_of(system) as transport:
        before = len(await letters(transport))
        await transport.append(poison)
        ids = await shop.place_many([("FLOWING", VISA)] * 10)
        ends = await shop.ends_of(ids)

        assert {order["status"] for order in ends} == {"COMPLETED"}
        found = await eventually(lambda: enough(transport, before + 3 * len(poison)), timeout_s=60, every_s=0.1)
        fresh = [each for each in found if is_one_of(each, poison)]
        consumers = {header_text(each.headers, "dlt_consumer") for each in fresh}
        assert consumers == {"order", "inventory", "notification"}
        for each in fresh:
            original = next(record for record in poison if is_same(each, record))
            assert each.headers[: len(original.headers)] == original.headers
            assert header_text(each.headers, "dlt_topic") == "payment-status"
            assert header_text(each.headers, "dlt_error") == "UndecodableError"
    await assert_promises(shop)


async def letters(transport: Transport) -> list[ConsumerRecord]:
    return await everything_on(transport, "payment-status.DLT")


async def enough(transport: Transport, count: int) -> list[ConsumerRecord]:
    """All dead letters, once there are so many."""
    found = await letters(transport)
    return found if len(found) >= count else []


def is_same(letter: ConsumerRecord, record: ProducerRecord) -> bool:
    return (letter.key, letter.value) == (record.key, record.value)


def is_one_of(letter: ConsumerRecord, records: list[ProducerRecord]) -> bool:
    return any(is_same(letter, record) for record in records)


async def shown(shop: Shop, ids: list[str]) -> list[object]:
    """All that the services show of these orders."""
    return [
        [
            await shop.get("order", f"/orders/{order_id}"),
            await shop.get("payment", f"/payments/{order_id}"),
            await shop.get("notification", f"/notifications?order_id={order_id}"),
        ]
        for order_id in ids
    ] + [await shop.get("inventory", f"/stock/{sku}/movements") for sku in ("REPLAY", "GONE")]
