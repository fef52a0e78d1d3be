"""The simulated bank, as the gateway sees it."""

from __future__ import annotations

from uuid import UUID

import pytest

from orderflow.bank import (
    APPROVED,
    DECLINED,
    BankFailedError,
    BankRefund,
    BankUnavailableError,
    Charge,
    DeclinedError,
    MemoryBook,
    SimulatedBank,
)
from orderflow.core.messages import Answer
from orderflow.core.service import Intent
from orderflow.core.side_effects import GatewayUnavailableError
from orderflow.core.timing import SystemClock
from orderflow.services.payment.messages import (
    ChargeApproved,
    ChargeRefused,
    ChargeUnknown,
    RefundApproved,
    RefundRefused,
    RefundUnknown,
)
from orderflow.services.payment.service import BankGateway
from tests.support.decisions import id_of

ORDER_ID = id_of("order")


TIMEOUT_S = 0.2
SLOW_S = 0.02


def charge(method: str, amount: int = 2500, order_id: UUID = ORDER_ID) -> Intent:
    return Intent(
        key=f"charge:{ORDER_ID}",
        kind="charge",
        request={
            "order_id": str(order_id),
            "amount": amount,
            "currency": "EUR",
            "payment_method": method,
        },
    )


def refund(amount: int = 2500) -> Intent:
    return Intent(
        key=f"refund:{ORDER_ID}",
        kind="refund",
        request={
            "order_id": str(ORDER_ID),
            "amount": amount,
            "currency": "EUR",
            "charge": f"charge:{ORDER_ID}",
        },
    )


class Shop:
    """A gateway with a short time-out to a bank with a book in memory. `took_s` is how long the last call took."""

    def __init__(self, book: MemoryBook | None = None) -> None:
        self.book = book or MemoryBook()
        self.clock = SystemClock()
        self.gateway = BankGateway(SimulatedBank(self.book, self.clock, slow_s=SLOW_S), timeout_s=TIMEOUT_S)
        self.took_s = 0.0

    async def ask(self, intent: Intent) -> Answer:
        started = self.clock.monotonic()
        try:
            return await self.gateway.ask(intent)
        finally:
            self.took_s = self.clock.monotonic() - started


@pytest.mark.parametrize("method", sorted(APPROVED))
async def test_good_cards_are_charged_once_however_often_the_bank_is_asked(method: str) -> None:
    shop = Shop()
    first = await shop.ask(charge(method))
    assert isinstance(first, ChargeApproved)
    assert first.reference.startswith("ch_")
    assert await shop.ask(charge(method)) == first
    assert len(shop.book.charges) == 1


@pytest.mark.parametrize(("method", "code"), sorted(DECLINED.items()))
async def test_bad_cards_are_declined_with_their_code_with_or_without_a_brand(method: str, code: str) -> None:
    for name in (method, method.replace("pm_card_", "pm_card_visa_")):
        assert await Shop().ask(charge(name)) == ChargeRefused(order_id=ORDER_ID, reason=code)


async def test_an_unknown_method_is_declined() -> None:
    answer = await Shop().ask(charge("pm_card_unheard_of"))
    assert answer == ChargeRefused(order_id=ORDER_ID, reason="unknown_payment_method")


async def test_a_decline_stays_a_decline_under_its_key() -> None:
    shop = Shop()
    declined = await shop.ask(charge("pm_card_chargeDeclined"))
    assert await shop.ask(charge("pm_card_visa")) == declined


async def test_a_slow_bank_is_waited_for() -> None:
    shop = Shop()
    assert isinstance(await shop.ask(charge("pm_slow")), ChargeApproved)
    assert shop.took_s >= SLOW_S


async def test_a_timeout_is_unknown_and_the_second_asking_finds_the_one_charge() -> None:
    shop = Shop()
    assert await shop.ask(charge("pm_timeout_charged")) == ChargeUnknown(order_id=ORDER_ID)
    assert shop.took_s >= TIMEOUT_S
    assert len(shop.book.charges) == 1
    assert isinstance(await shop.ask(charge("pm_timeout_charged")), ChargeApproved)
    assert len(shop.book.charges) == 1


async def test_a_timeout_before_the_charge_is_unknown_too_and_the_second_asking_charges() -> None:
    shop = Shop()
    assert await shop.ask(charge("pm_timeout_not_charged")) == ChargeUnknown(order_id=ORDER_ID)
    assert not shop.book.charges
    assert isinstance(await shop.ask(charge("pm_timeout_not_charged")), ChargeApproved)


async def test_a_bank_that_fails_twice_is_unknown_twice() -> None:
    shop = Shop()
    answers = [await shop.ask(charge("pm_fails_twice")) for _ in range(3)]
    assert [type(answer) for answer in answers] == [ChargeUnknown, ChargeUnknown, ChargeApproved]


async def test_a_charge_can_be_given_back_once() -> None:
    shop = Shop()
    await shop.ask(charge("pm_card_visa"))
    first = await shop.ask(refund())
    assert isinstance(first, RefundApproved)
    assert await shop.ask(refund()) == first
    assert len(shop.book.refunds) == 1


@pytest.mark.parametrize("method", ["", "pm_card_chargeDeclined"])
async def test_what_was_not_charged_is_not_given_back(method: str) -> None:
    shop = Shop()
    if method:
        await shop.ask(charge(method))
    assert await shop.ask(refund()) == RefundRefused(order_id=ORDER_ID, reason="charge_missing")
    assert not shop.book.refunds


async def test_a_card_that_is_gone_is_charged_and_its_refund_is_refused_for_good() -> None:
    shop = Shop()
    assert isinstance(await shop.ask(charge("pm_card_refundFail")), ChargeApproved)
    for _ in range(2):
        answer = await shop.ask(refund())
        assert answer == RefundRefused(order_id=ORDER_ID, reason="expired_or_canceled_card")
    assert not shop.book.refunds


async def test_no_more_is_given_back_than_was_charged() -> None:
    shop = Shop()
    await shop.ask(charge("pm_card_visa"))
    await shop.ask(refund(2501))
    assert not shop.book.refunds


async def test_a_key_stands_for_one_charge_of_one_order() -> None:
    shop = Shop()
    await shop.ask(charge("pm_card_visa"))
    other = await shop.ask(charge("pm_card_visa", amount=9))
    assert other == ChargeRefused(order_id=ORDER_ID, reason="idempotency_key_in_use")
    bank = SimulatedBank(shop.book, shop.clock)
    with pytest.raises(DeclinedError):
        await bank.charge(
            f"charge:{ORDER_ID}",
            order_id=str(id_of("another")),
            amount=2500,
            currency="EUR",
            payment_method="pm_card_visa",
        )


class BrokenBook(MemoryBook):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def charge(self, charge: Charge) -> Charge:
        raise self.error

    async def refund(self, refund: BankRefund) -> BankRefund | None:
        raise self.error


async def test_a_bank_that_is_away_is_infrastructure() -> None:
    shop = Shop(BrokenBook(BankUnavailableError("away")))
    for intent in (charge("pm_card_visa"), refund()):
        with pytest.raises(GatewayUnavailableError):
            await shop.ask(intent)


async def test_a_bank_that_fails_leaves_it_unknown() -> None:
    shop = Shop(BrokenBook(BankFailedError("500")))
    assert await shop.ask(charge("pm_card_visa")) == ChargeUnknown(order_id=ORDER_ID)
    assert await shop.ask(refund()) == RefundUnknown(order_id=ORDER_ID)
