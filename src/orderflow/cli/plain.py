"""Text from outside is data: shown, it can neither move the cursor nor reorder or hide what stands around it."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: object) -> str:
    """The text with control, format and unassigned characters as escapes (`\\x1b`), on one line."""
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(_escaped(character) if _is_harmful(character) else character for character in shown)


def printable_block(text: str) -> str:
    """The same for text of several lines, whose line ends stay."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _is_harmful(character: str) -> bool:
    return unicodedata.category(character) in _HARMFUL and character not in _JOINERS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def counted(number: int, what: str) -> str:
    """`1 event`, `2 events`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
