"""What a text from outside may hold: one rule for bodies, parameters, paths and headers.

Refused are characters that no name has and that change how what stands beside them is read or shown: controls (C0,
DEL, C1), what sets or overrides a direction (Unicode's Bidi_Control, with the older format controls beside it), line
and paragraph separators, byte order marks, interlinear annotations, noncharacters, and lone surrogates.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

import msgspec

_PLANES = "".join(f"{chr(plane * 0x10000 + 0xFFFE)}{chr(plane * 0x10000 + 0xFFFF)}" for plane in range(1, 17))
_C0 = r"\u0000-\u001f"
_OTHERS = (
    r"\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff" + _PLANES
)
PATTERN = rf"^[^{_C0}{_OTHERS}]*$(?!\n)"
"""The rule as a regular expression that ECMAScript (with its flag u), and so OpenAPI, reads alike. Lone surrogates
are not in it: they are in no JSON text."""
MEANS = "text without control characters, line separators, marks of direction and noncharacters"

Text = Annotated[str, msgspec.Meta(pattern=PATTERN, description=MEANS)]
IdEnd = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9a-f]{6,32}$(?!\n)", description="6 to 32 hexadecimal digits (0-9, a-f), without hyphens"
    ),
]
Raw = Annotated[str, msgspec.Meta(extra={"raw": True}, extra_json_schema={"pattern": "^[^\\u0000]*$"})]
"""Bytes in the shape of a text, which are kept as they are and shown with care: only what UTF-8 or the database
cannot hold is refused in it."""

_ANYWHERE = re.compile(rf"[{_C0}{_OTHERS}\ud800-\udfff]")
_BEYOND_ASCII = re.compile(rf"[{_OTHERS}\ud800-\udfff]")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def fault_of(text: str, *, raw: bool = False) -> str:
    """What is wrong with `text`, as the end of a sentence that names it; "" where nothing is."""
    found = (_UNSTORABLE if raw else _ANYWHERE).search(text)
    if found is None:
        return ""
    character = found[0]
    if character == "\0":
        return "text must not contain NUL"
    if "\ud800" <= character <= "\udfff":
        return "text must be UTF-8, without lone surrogates"
    name = unicodedata.name(character, "a control character" if ord(character) < 0xA0 else "a noncharacter")
    return f"text must not contain U+{ord(character):04X} ({name})"


def is_plainly_sound(content: bytes) -> bool:
    """Whether JSON shows at a glance that no text in it holds what is refused.

    A C0 control can stand in a text of it only as an escape.
    """
    if b"\\" in content or b"\x7f" in content:
        return False
    return content.isascii() or _BEYOND_ASCII.search(content.decode(errors="surrogateescape")) is None
