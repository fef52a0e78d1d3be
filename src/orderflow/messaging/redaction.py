"""Secrets and personal data taken out of a text before it is stored, published or logged.

Every pattern reads on from where it stopped, so the time is linear in the text, whatever it says.
"""

from __future__ import annotations

import re

HIDDEN = "***"
_CARD_MIN = 13
_CARD_MAX = 19

_NAMED = r"((?:password|passwd|pwd|secret|token|api[_-]?key)\\?[\"']?\s{0,3}[=:]\s{0,3}"
PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(://[^\s:@/]*):[^\s/]*@"), rf"\1:{HIDDEN}@"),
    (re.compile(_NAMED + r"\\?\")[^\"]*", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(_NAMED + r"\\?')[^']*", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(_NAMED + r")[^\s&;\"'\\][^\s&;\"']*", re.IGNORECASE), rf"\1{HIDDEN}"),
    (
        re.compile(r"(\bauthorization[\"']?\s{0,3}[=:]\s{0,3}[\"']?basic\s{1,3})[\w+/=-]+", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(\bbearer\s{1,3})[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(whsec_|sk_)[\w+/=-]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?<![\w.+%-])(?<!//)[\w.+%-]+@[\w-]+(?:\.[\w-]+)+"), HIDDEN),
)
DIGITS = re.compile(r"(?<![0-9A-Za-z])[0-9]+(?![0-9A-Za-z])")


def redact(text: str) -> str:
    """`text` with *** in place of what nobody but its owner may read.

    These are: the password in a URL; what follows `password`, `token`, `secret` or `api_key`; bearer tokens; keys
    that begin with `whsec_` or `sk_`; e-mail addresses; payment card numbers (13 to 19 digits whose last is the check
    digit of ISO/IEC 7812-1, also in groups).
    """
    for pattern, hidden in PATTERNS:
        text = pattern.sub(hidden, text)
    return _without_cards(text)


def _without_cards(text: str) -> str:
    groups = [match.span() for match in DIGITS.finditer(text)]
    parts: list[str] = []
    done = first = 0
    while first < len(groups):
        last = _card_from(text, groups, first)
        if last is None:
            first += 1
            continue
        parts += (text[done : groups[first][0]], HIDDEN)
        done, first = groups[last][1], last + 1
    return "".join((*parts, text[done:]))


def _card_from(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """The last group of the longest card number that begins with the group `first`."""
    found = None
    digits = ""
    for number in range(first, len(groups)):
        start, end = groups[number]
        if number > first and text[groups[number - 1][1] : start] not in (" ", "-"):
            break
        if len(digits) + end - start > _CARD_MAX:
            break
        digits += text[start:end]
        if len(digits) >= _CARD_MIN and _has_check_digit(digits):
            found = number
    return found


def _has_check_digit(digits: str) -> bool:
    """The Luhn formula (ISO/IEC 7812-1, annex B)."""
    numbers = [int(digit) for digit in reversed(digits)]
    doubled = (sum(divmod(2 * number, 10)) for number in numbers[1::2])
    return (sum(numbers[::2]) + sum(doubled)) % 10 == 0
