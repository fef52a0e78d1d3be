"""What is shown fits the terminal: at 80, 100 and 140 columns no line of a table wraps, and none is longer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from orderflow.cli import output, tables
from orderflow.cli.output import text
from orderflow.cli.tables import Fitted, OneLine, ident, table, when
from orderflow.cli.topic import line as line_of
from orderflow.core.transport import ConsumerRecord
from tests.unit.cli.calls import ORDER_ID
from tests.unit.cli.fleet import fleet
from tests.unit.cli.orders import failed, order
from tests.unit.cli.test_dlt import DETAILS, GROUP, LETTER, ONE, page, replay

NOW_MS = 1_767_323_225_000
"""Three minutes after the times of these tests."""
WIDE = "a customer whose name is as long as the interface allows: " + "x" * 60
STUCK = [{"consumer": "inventory", "keys": 3, "retrying": 1, "dead": 2, "held": 0, "oldest": "2026-01-02T03:04:05Z"}]
LAG = {
    "consumer": "inventory",
    "topic": "inventory-status",
    "partition": 3,
    "committed": 10**9,
    "end": 10**9,
    "lag": 0,
}
LOST = {
    "consumer": "notification",
    "topic": "inventory-status",
    "partition": 11,
    "first_lost": 1_000_000_000,
    "next_kept": 2_000_000_000,
    "count": 1_000_000_000,
    "noticed_at": "2026-01-02T03:04:05Z",
}
FAULT = {
    "id": 7,
    "error": "infrastructure",
    "event_type": "orderflow.PaymentSucceeded.v1",
    "field": "customer_id",
    "value": WIDE,
    "share": 1.0,
}
PAYMENT = {
    "order_id": ORDER_ID,
    "changed_at": "2026-01-02T03:04:05Z",
    "status": "REFUND_REFUSED",
    "refund_refusal": "the card was closed, and the bank has no other account of this customer",
    "reason": None,
    "amount": 123_456_789,
    "currency": "EUR",
    "customer_id": WIDE,
}
ACT = {"number": 1, "at": "2026-01-02T03:04:05Z", "who": "ada@desk", "action": "discard", "target": ORDER_ID}
ANSWERS: dict[str, dict[str, Any]] = {
    "order": {
        "/orders": {"orders": [order(), order(1, customer_id=WIDE), failed("due")], "next": None},
        f"/orders/{ORDER_ID}": failed("due"),
        "/ops/lag": [{**LAG, "consumer": "order.flow"}],
        "/ops/expired": [LOST],
        "/ops/faults": {"faults": [FAULT]},
    },
    "payment": {
        "/ops/stuck": STUCK,
        "/ops/lag": [LAG],
        "/ops/dead-letters": page(LETTER, {**LETTER, "message": "m" * 300}),
        "/ops/dead-letter-groups": [GROUP],
        "/ops/replays": [replay("stopped", waiting=100, failed_again=7)],
        "/ops/actions": [{**ACT, "reason": "r" * 200, "result": "Discarded."}],
        "/payments": {"payments": [PAYMENT], "next": None},
        ONE: DETAILS,
    },
}
COMMANDS = (
    "order list",
    f"order show {ORDER_ID}",
    "payment list",
    "lag",
    "lag --partitions",
    "health",
    "dlt list",
    "dlt groups",
    "dlt replays",
    "dlt log",
    f"dlt show {ORDER_ID}",
    "expired list",
    "outbox status",
    "fault list",
    "settings",
)
TABLES = ("order list", "payment list", "lag", "lag --partitions", "expired list", "fault list", "settings")

Terminal = Callable[[int, str], Sequence[str]]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """The lines of a command on a terminal so wide; 0: where none is."""
    monkeypatch.setattr(tables, "now_ms", lambda: NOW_MS)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TZ", "UTC")

    def lines(width: int, command: str) -> Sequence[str]:
        monkeypatch.setattr(output, "is_terminal", lambda _: bool(width))
        monkeypatch.setenv("COLUMNS", str(width or 80))
        with fleet(tmp_path, **ANSWERS) as services:  # type: ignore[arg-type]
            shown = services.call(*command.split())
        assert shown.exit_code in (0, 1), shown.stderr
        return shown.stdout.splitlines()

    return lines


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_is_longer_than_the_terminal_is_wide(command: str, terminal: Terminal) -> None:
    for width in (80, 100, 140):
        too_long = [line for line in terminal(width, command) if cell_len(line) > width]
        assert too_long == [], width


@pytest.mark.parametrize("command", TABLES)
def test_a_row_of_a_table_is_one_line_at_every_width(command: str, terminal: Terminal) -> None:
    whole = len(terminal(0, command))
    assert [len(terminal(width, command)) for width in (80, 100, 140)] == [whole, whole, whole]


def test_a_list_of_orders_at_three_widths(terminal: Terminal) -> None:
    assert terminal(80, "order list") == [
        "order     placed     status     reason        refund      total",
        "─" * 63,
        "456789ab  3 min ago  COMPLETED                        25.00 EUR",
        "456789ab  3 min ago  PENDING                          25.00 EUR",
        "456789ab  3 min ago  FAILED     out_of_stock  due     25.00 EUR",
    ]
    assert terminal(100, "order list") == terminal(80, "order list")
    narrow = [line.replace(WIDE, "ada") for line in terminal(0, "order list")]
    assert narrow[2].split() == [ORDER_ID, "2026-01-02", narrow[2].split()[2], "COMPLETED", "25.00", "EUR", "ada"]


def test_times_give_way_before_ids_and_ids_before_columns() -> None:
    rows = [(ident(ORDER_ID), when("2026-01-02T03:04:05Z"), "words", 12)]
    made = table(("order", "placed", "why", "count"), rows, right=("count",), drop=("why",))
    assert widths(made, 80)[0] == ORDER_ID
    assert [row[0] for row in (widths(made, 70), widths(made, 65))] == [ORDER_ID, ORDER_ID]
    assert widths(made, 40)[0] == "456789ab"
    assert "words" in widths(made, 40)
    assert "words" not in widths(made, 31)


def widths(made: Fitted, width: int) -> list[str]:
    lines = [line.plain for line in made.lines(width)]
    assert max(map(cell_len, lines)) <= width
    return lines[-1].split()


def test_what_is_too_long_for_any_width_is_cut_and_says_so() -> None:
    made = table(("what", "count"), [("w" * 50, 1234)], right=("count",))
    *_, row = (line.plain for line in made.lines(20))
    assert row == f"{'w' * 10}...   1234"
    (line,) = OneLine(text("w" * 50)).lines(20)
    assert line.plain == "w" * 17 + "..."
    (wide,) = OneLine(text("茶" * 30)).lines(20)
    assert cell_len(wide.plain) <= 20


def test_where_no_terminal_is_nothing_is_cut() -> None:
    rows = [(ident(ORDER_ID), when("2026-01-02T03:04:05Z"), "w" * 500)]
    *_, row = (line.plain for line in table(("order", "placed", "why"), rows).lines(None))
    assert ORDER_ID in row
    assert "w" * 500 in row


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_record_is_one_line(width: int) -> None:
    record = ConsumerRecord(
        "order-events", 2, 7, ORDER_ID.encode(), b'{"items":"' + b"x" * 999 + b'"}', (), 1_767_323_045_678
    )
    typed = ConsumerRecord(
        "order-events", 2, 7, b"k" * 10_000, None, (("ce_type", b"orderflow.OrderPlaced.v1"),), 1_767_323_045_678
    )
    for each in (record, typed):
        ((shown,),) = [list(part.lines(width)) for part in line_of(each) if isinstance(part, OneLine)]
        assert cell_len(shown.plain) <= width
    assert "OrderPlaced  " in shown.plain


@pytest.mark.parametrize(
    ("passed_ms", "said"),
    [
        (0, "now"),
        (999, "now"),
        (3_400, "3.4 s ago"),
        (180_000, "3 min ago"),
        (-5_000, "in 5.0 s"),
        (10**9, "11.6 d ago"),
    ],
)
def test_how_long_ago_it_was(passed_ms: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "now_ms", lambda: 1_767_323_045_000 + passed_ms)
    assert tables.ago("2026-01-02T03:04:05Z") == said
