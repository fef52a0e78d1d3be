"""What comes from outside cannot act on a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.cli.errors import printable, printable_block
from orderflow.cli.output import Output, block, joined, text
from orderflow.cli.tables import table


@given(st.text(alphabet=st.characters(codec=None)))
def test_no_character_that_controls_formats_or_is_unassigned_is_left(said: str) -> None:
    shown = printable(said)

    kinds = {unicodedata.category(character) for character in shown if character not in "\u200c\u200d"}
    assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_ordinary_text_of_every_language_stays_as_it_is(said: str) -> None:
    assert printable(said) == said


def test_an_escape_sequence_and_a_reversing_mark_are_shown_as_their_codes() -> None:
    assert printable("a\x1b[31m\r\u202eb\n") == "a\\x1b[31m\\r\\u202eb\\n"


def test_a_block_keeps_its_line_ends_only() -> None:
    assert printable_block("a\x07\nb") == "a\\x07\nb"


@pytest.mark.parametrize(
    "hostile", ["[red]x[/red]", "[link=http://evil]y[/link]", ":smile:", "[/]", "\x1b]0;title\x07"]
)
def test_markup_of_others_is_shown_as_text(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.show(text(hostile), block(hostile), joined(text("a "), text(hostile)), table(("[b]c[/b]",), [(hostile,)]))

    shown = capsys.readouterr().out
    assert shown.count(printable(hostile)) == 4
    assert "\x1b" not in shown


def test_a_table_cell_that_is_missing_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    Output().show(table(("a", "b"), [(None, 0)]))

    assert capsys.readouterr().out.splitlines()[-1].split() == ["0"]
