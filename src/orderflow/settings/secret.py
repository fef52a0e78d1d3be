"""A URL that may hold a password and never shows it by accident."""

from __future__ import annotations

import re
from typing import final

_USER_INFO = re.compile(r"^(?P<front>[a-z][a-z0-9+.-]*://[^:@/?#]*):.*@(?P<tail>[^@]*)$", re.IGNORECASE)
_PARAMETER = re.compile(r"(?<=password=)[^&\s]*", re.IGNORECASE)
HIDDEN = "***"


@final
class Secret:
    """Holds text; `reveal()` is the only way to it. Its repr and str show `shown`, or it without its password."""

    __slots__ = ("_shown", "_value")

    def __init__(self, value: str, shown: str | None = None) -> None:
        self._value = value
        self._shown = hide_password(value) if shown is None else shown

    def reveal(self) -> str:
        return self._value

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret is not pickled")


def hide_password(url: str) -> str:
    """The URL with its password (in the user info, or a `password=` parameter) replaced by ***."""
    match = _USER_INFO.match(url)
    if match:
        url = f"{match['front']}:{HIDDEN}@{match['tail']}"
    return _PARAMETER.sub(HIDDEN, url)
