"""The bank's book in PostgreSQL keeps what its memory twin keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from orderflow.bank import BankBook, BankFailedError, BankRefund, BankUnavailableError, Charge, MemoryBook
from orderflow.bank.postgres import PostgresBook, bank_migrations
from orderflow.core.postgres import schema
from tests.support.decisions import id_of
from tests.support.postgres import PostgresServer


@pytest.fixture(params=["memory", "postgres"])
async def book(request: pytest.FixtureRequest) -> AsyncIterator[BankBook]:
    opened: BankBook
    if request.param == "memory":
        opened = MemoryBook()
    else:
        url: str = request.getfixturevalue("database_url")
        await schema.migrate(url, [bank_migrations()])
        opened = PostgresBook(url)
    yield opened
    await opened.close()


def charge(name: str, **changes: Any) -> Charge:
    given = {
        "key": f"charge:{name}",
        "order_id": str(id_of(name)),
        "amount": 100,
        "currency": "EUR",
        "payment_method": "pm",
        "decline_code": None,
        "reference": f"ch_{uuid4().hex}",
    }
    return Charge(**{**given, **changes})


def refund(name: str, **changes: Any) -> BankRefund:
    given = {
        "key": f"refund:{name}",
        "charge": f"charge:{name}",
        "order_id": str(id_of(name)),
        "amount": 100,
        "currency": "EUR",
        "reference": f"re_{uuid4().hex}",
    }
    return BankRefund(**{**given, **changes})


async def test_the_first_charge_of_a_key_stands(book: BankBook) -> None:
    first = charge("a")
    assert await book.charge(first) == first
    assert await book.charge(charge("a", amount=5)) == first
    declined = charge("b", decline_code="card_declined")
    assert await book.charge(declined) == declined
    assert await book.charge(charge("b")) == declined


async def test_many_charges_at_once_each_get_their_own_answer(book: BankBook) -> None:
    known = [charge(f"known-{number}") for number in range(20)]
    await asyncio.gather(*(book.charge(each) for each in known))
    again = [charge(f"known-{number}") for number in range(20)]
    fresh = [charge(f"new-{number}") for number in range(200)]
    twice = [charge("twice") for _ in range(10)]
    answers = await asyncio.gather(*(book.charge(each) for each in [*again, *fresh, *twice]))
    assert answers[:20] == known
    assert answers[20:220] == fresh
    assert len({each.reference for each in answers[220:]}) == 1


async def test_a_refund_needs_an_approved_charge_of_that_much(book: BankBook) -> None:
    await book.charge(charge("a"))
    await book.charge(charge("declined", decline_code="card_declined"))
    assert await book.refund(refund("none")) is None
    assert await book.refund(refund("declined")) is None
    assert await book.refund(refund("a", amount=101)) is None
    first = refund("a")
    assert await book.refund(first) == first
    assert await book.refund(refund("a")) == first


async def test_the_method_of_a_charge_is_known_by_its_key(book: BankBook) -> None:
    await book.charge(charge("a", payment_method="pm_card_refundFail"))
    assert await book.method_of("charge:a") == "pm_card_refundFail"
    assert await book.method_of("charge:b") is None


async def test_calls_are_counted_by_key(book: BankBook) -> None:
    assert [await book.count_call("a") for _ in range(3)] == [1, 2, 3]
    assert await book.count_call("b") == 1


async def test_who_stops_waiting_has_still_charged(book: BankBook) -> None:
    first = charge("a")
    waiting = asyncio.create_task(book.charge(first))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await book.charge(charge("a")) == first


async def test_a_bank_without_its_database_is_unavailable_and_comes_back() -> None:
    server = PostgresServer()
    server.start()
    try:
        await schema.migrate(server.url(), [bank_migrations()])
        book = PostgresBook(server.url())
        await book.charge(charge("a"))
        server.crash()
        with pytest.raises((BankUnavailableError, BankFailedError)):
            await book.charge(charge("b"))
        with pytest.raises(BankUnavailableError):
            await book.charge(charge("b"))
        server.start()
        stood = await book.charge(charge("b"))
        assert stood.key == "charge:b"
        await book.close()
    finally:
        server.remove()
