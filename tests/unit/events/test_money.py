"""Money in minor units."""

from __future__ import annotations

import re

import pytest

from orderflow.events.money import AMOUNT_MAX, CURRENCIES, format_amount


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1234, "EUR", "12.34 EUR"),
        (5, "USD", "0.05 USD"),
        (0, "EUR", "0.00 EUR"),
        (1234, "JPY", "1234 JPY"),
        (1234, "KWD", "1.234 KWD"),
        (AMOUNT_MAX, "EUR", "90071992547409.91 EUR"),
    ],
)
def test_an_amount_is_written_with_the_digits_of_its_currency(amount: int, currency: str, text: str) -> None:
    assert format_amount(amount, currency) == text


def test_an_unknown_currency_has_no_text() -> None:
    with pytest.raises(KeyError):
        format_amount(1, "XXX")


def test_every_currency_is_three_capital_letters_and_named_once() -> None:
    assert all(re.fullmatch("[A-Z]{3}", code) for code in CURRENCIES)
    assert set(CURRENCIES.values()) == {0, 2, 3}
    assert {"EUR", "USD", "GBP", "JPY", "CHF", "KWD"} <= set(CURRENCIES)
    assert len(CURRENCIES) > 140
