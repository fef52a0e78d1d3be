"""The currencies that can be paid in, and how their amounts are written."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_TWO_DIGITS = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP "
    "CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR "
    "IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN "
    "NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP "
    "STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)
_NO_DIGITS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE_DIGITS = "BHD IQD JOD KWD LYD OMR TND"

CURRENCIES: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(_TWO_DIGITS.split(), 2),
        **dict.fromkeys(_NO_DIGITS.split(), 0),
        **dict.fromkeys(_THREE_DIGITS.split(), 3),
    }
)
"""The currencies that can be paid in (ISO 4217, list one of 2026-01-01, without funds, metals and units of account)
→ digits of the minor unit.
"""

KNOWN_CURRENCIES: Mapping[str, int] = MappingProxyType({**CURRENCIES, "BGN": 2})
"""Those, and the ones that an earlier release took orders in: what was ordered before a currency was withdrawn is
still paid, refunded and shown. BGN: withdrawn on 2026-01-01.
"""


def not_payable(currency: str) -> str:
    """In words."""
    return f"{currency!r} is not a currency of ISO 4217 that can be paid in"


def require_known(currency: str) -> None:
    """Raises ValueError."""
    if currency not in KNOWN_CURRENCIES:
        raise ValueError(not_payable(currency))


def format_amount(amount: int, currency: str) -> str:
    """For people: 1234 EUR → `12.34 EUR`, 1234 JPY → `1234 JPY`. Raises KeyError on an unknown currency."""
    digits = KNOWN_CURRENCIES[currency]
    if not digits:
        return f"{amount} {currency}"
    whole, part = divmod(amount, 10**digits)
    return f"{whole}.{part:0{digits}d} {currency}"
