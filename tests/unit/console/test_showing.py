"""How values are shown: what comes from outside is text, and numbers, money and times are easy to read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orderflow.console import showing


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\u202eevil", "\\u202eevil"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("two\nlines", "two\nlines"),
        ("plain", "plain"),
    ],
)
def test_what_would_move_hide_or_reverse_text_is_shown_as_a_code(hostile: str, shown: str) -> None:
    assert showing.plain(hostile) == shown


def test_a_long_text_is_cut_and_says_how_long_it_is() -> None:
    assert showing.plain("x" * 1_000, 10) == "xxxxxxxxxx… (1,000 characters)"


def test_every_template_escapes_what_it_is_given() -> None:
    template = showing.environment().from_string('<b title="{{ it }}">{{ it|plain }}</b>{{ it|ago if false }}')
    assert template.render(it='"><script>') == '<b title="&#34;&gt;&lt;script&gt;">&#34;&gt;&lt;script&gt;</b>'


def test_every_template_can_be_read() -> None:
    made = showing.environment()
    names = made.list_templates()
    assert len(names) > 20
    assert [made.get_template(name).name for name in names] == names


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [(1_234_567, "EUR", "12\u202f345.67 EUR"), (5, "EUR", "0.05 EUR"), (1_234, "JPY", "1\u202f234 JPY")],
)
def test_money_is_shown_with_the_digits_of_its_currency(amount: int, currency: str, shown: str) -> None:
    assert showing.money(amount, currency) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, showing.UNKNOWN),
        (0, "0"),
        (0.04, "0.0"),
        (3.2, "3.2"),
        (12.7, "13"),
        (1_234_567, "1\u202f234\u202f567"),
    ],
)
def test_a_number_is_short_and_what_nobody_knows_is_a_dash(value: float | None, shown: str) -> None:
    assert showing.number(value) == shown


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (35, "35 ms"),
        (1_250, "1.2 s"),
        (59_000, "59 s"),
        (61_000, "1 min"),
        (3_600_000 + 5 * 60_000, "1 h 5 min"),
        (26 * 3_600_000, "1 d 2 h"),
    ],
)
def test_a_duration_has_the_unit_that_fits(ms: float, shown: str) -> None:
    assert showing.duration(ms) == shown


def test_a_time_is_a_distance_with_the_exact_one_at_hand() -> None:
    at = datetime(2026, 11, 26, 12, 27, 40, 112_000, tzinfo=UTC)
    shown = showing.ago(at, at + timedelta(minutes=3))
    assert shown == (
        '<time datetime="2026-11-26T12:27:40.112000+00:00" title="2026-11-26 12:27:40.112 UTC">3 min ago</time>'
    )


def test_an_id_is_known_by_its_end_and_a_type_by_its_name() -> None:
    assert showing.short("01a219a5-759f-7d3e-a4af-63b37a2e8be4") == "7a2e8be4"
    assert showing.kind("orderflow.OrderPlaced.v1") == "OrderPlaced"
    assert showing.kind("<b>") == "<b>"
    assert showing.kind("") == "undecodable"
