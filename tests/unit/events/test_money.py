"""Money in minor units."""

from __future__ import annotations

import re

import iso4217
import pytest

from orderflow.events.currencies import CURRENCIES, KNOWN_CURRENCIES, format_amount, require_known
from orderflow.events.money import AMOUNT_MAX


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


FUNDS = "BOV CHE CHW CLF COU MXV USN UYI UYW"
UNITS_OF_ACCOUNT = "XAD XBA XBB XBC XBD XDR XSU XUA"
METALS = "XAG XAU XPD XPT"
NO_CURRENCY = "XTS XXX"
NO_MONEY = frozenset(f"{FUNDS} {UNITS_OF_ACCOUNT} {METALS} {NO_CURRENCY}".split())
"""Codes of list one that nobody can pay in."""


def test_the_currencies_are_those_of_the_official_list() -> None:
    """Oracle: the table of the ISO 4217 maintenance agency, as the package `iso4217` carries it."""
    official = {each.code: each.exponent for each in iso4217.Currency}
    assert official.keys() >= NO_MONEY
    assert dict(CURRENCIES) == {code: digits for code, digits in official.items() if code not in NO_MONEY}


def test_a_currency_that_was_withdrawn_takes_no_orders_and_is_still_written() -> None:
    assert "BGN" not in CURRENCIES
    assert "BGN" in KNOWN_CURRENCIES
    require_known("BGN")
    assert format_amount(1234, "BGN") == "12.34 BGN"
    with pytest.raises(ValueError, match="'HRK' is not a currency"):
        require_known("HRK")
