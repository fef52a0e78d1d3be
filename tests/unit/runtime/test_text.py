"""The rule for texts from outside, held against Unicode's own tables."""

from __future__ import annotations

import re
import sys
import unicodedata

import regress

from orderflow.http.validation import PATTERN, fault_of, is_plainly_sound

ENDS_OF_PLANES = range(0x1FFFC, sys.maxunicode + 1, 0x10000)
EVERY = [*map(chr, range(0x12000)), *(chr(start + number) for start in ENDS_OF_PLANES for number in range(4))]
BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
OLD_FORMAT = set("\u206a\u206b\u206c\u206d\u206e\u206f")
OTHER_FORMAT = set("\ufeff\ufff9\ufffa\ufffb")


def is_dangerous(character: str) -> bool:
    number = ord(character)
    is_noncharacter = 0xFDD0 <= number <= 0xFDEF or number & 0xFFFE == 0xFFFE
    is_of_category = unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
    return is_of_category or is_noncharacter or character in BIDI | OLD_FORMAT | OTHER_FORMAT


def test_every_character_is_judged_by_its_kind() -> None:
    assert [each for each in EVERY if bool(fault_of(each)) != is_dangerous(each)] == []


def test_the_pattern_of_the_document_says_the_same_as_the_rule() -> None:
    pattern = re.compile(PATTERN)
    storable = [each for each in EVERY if unicodedata.category(each) != "Cs"]
    assert [each for each in storable if bool(pattern.search(each)) == is_dangerous(each)] == []
    assert [each for each in ("", "a b", "\u00e9\U0001f469\u200d\U0001f467") if not pattern.search(each)] == []
    assert [each for each in ("a\n", "\na", "a\u202eb") if pattern.search(each)] == []


def test_a_reader_of_ecmascript_reads_the_pattern_alike() -> None:
    pattern = regress.Regex(PATTERN, flags="u")
    for text in (
        "",
        "a b",
        "a\n",
        "\u00e9",
        "\u202e",
        "\x85",
        "\u2028",
        "\ufdd0",
        "\ufffd",
        "\U0001fffd",
        "\U0001fffe",
    ):
        assert (pattern.find(text) is not None) == (fault_of(text) == ""), ascii(text)


def test_json_that_is_plainly_sound_holds_no_dangerous_text() -> None:
    dangerous = [each for each in EVERY if is_dangerous(each) and unicodedata.category(each) != "Cs"]
    beyond_c0 = [each for each in dangerous if each >= " "]
    assert [each for each in beyond_c0 if is_plainly_sound(f'{{"a":\n\t"{each}"}}'.encode())] == []
    assert [each for each in dangerous if is_plainly_sound(b'"\\u%04x"' % ord(each))] == []
    assert is_plainly_sound('{"a":\r\n\t"\u00e9"}'.encode())
    assert not is_plainly_sound(b'"\xed\xa0\x80"')


def test_what_is_wrong_is_named() -> None:
    assert fault_of("a\u202eb") == "text must not contain U+202E (RIGHT-TO-LEFT OVERRIDE)"
    assert fault_of("a\x85") == "text must not contain U+0085 (a control character)"
    assert fault_of("\U0001ffff") == "text must not contain U+1FFFF (a noncharacter)"
    assert fault_of("\udc80") == "text must be UTF-8, without lone surrogates"
    assert fault_of("a\n\u202e", raw=True) == ""
    assert fault_of("a\0", raw=True) == "text must not contain NUL"
