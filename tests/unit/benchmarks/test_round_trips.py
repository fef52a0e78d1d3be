"""Round trips are read from the bytes of PostgreSQL's protocol, wherever these are cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmarks.round_trips import Counts, Session, on_one_line, read_names

LOAD = b"SELECT 1 -- what for\n  FROM orders"


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


def parse(name: bytes, statement: bytes) -> bytes:
    return message(b"P", name + b"\0" + statement + b"\0\0\0")


def run(name: bytes) -> bytes:
    return message(b"B", b"\0" + name + b"\0" + bytes(6)) + message(b"E", b"\0" + bytes(4))


def ready(state: bytes) -> bytes:
    return message(b"Z", state)


SYNC = message(b"S")


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    return (data[first : first + size] for first in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_trip_ends_when_the_server_is_ready_and_has_the_name_of_its_statement(size: int) -> None:
    counts = Counts()
    session = Session(counts, {"SELECT 1 FROM orders": "load_orders"}, "shop")
    asked = parse(b"s1", LOAD) + SYNC + 2 * (run(b"s1") + SYNC)

    for piece in pieces(asked, size):
        session.from_client(piece)
    assert not counts.trips
    for piece in pieces(3 * ready(b"I"), size):
        session.from_server(piece)

    assert counts.trips == Counter({("shop", "(prepare)"): 1, ("shop", "load_orders"): 2})
    assert counts.by_database() == Counter(shop=3)


def test_statements_that_go_together_are_one_trip() -> None:
    counts = Counts()
    session = Session(counts, {}, "shop")

    session.from_client(parse(b"a", b"SELECT 1") + parse(b"b", b"SELECT 'secret'") + run(b"a") + run(b"b") + SYNC)
    session.from_server(ready(b"I"))

    assert counts.trips == Counter({("shop", "SELECT 1 + SELECT '…'"): 1})


def test_a_transaction_ends_when_the_session_has_left_it() -> None:
    counts = Counts()
    session = Session(counts, {}, "shop")
    for statement, state in ((b"BEGIN", b"T"), (b"SELECT 1", b"T"), (b"COMMIT", b"I"), (b"SELECT 2", b"I")):
        session.from_client(message(b"Q", statement + b"\0"))
        session.from_server(message(b"A", b"note") + ready(state))

    assert counts.by_database() == Counter(shop=4)
    assert counts.transactions == Counter(shop=2)
    assert counts.wake_ups == Counter(shop=4)


def test_what_is_added_since_then_and_what_rest_would_have_done_anyway() -> None:
    counts = Counts()
    session = Session(counts, {}, "shop")
    ask = message(b"Q", b"SELECT now\0")

    session.from_client(2 * ask)
    session.from_server(2 * ready(b"I"))
    before = counts.copy()
    session.from_client(3 * ask)
    session.from_server(3 * ready(b"I"))
    since = counts.since(before)

    assert since.transactions == Counter(shop=3)
    assert since.less(before, 1.5).by_database() == Counter()
    assert since.less(before, 0.5).by_database() == Counter(shop=2)


def test_a_statement_is_named_as_its_file_names_it(tmp_path: Path) -> None:
    file = tmp_path / "queries.sql"
    file.write_text("-- name: a\n-- what it does\nSELECT 1\n  FROM x; \n\n-- name: b\n-- other\nSELECT 2;\n")

    assert read_names([file]) == {"SELECT 1 FROM x": "a", "SELECT 2": "b"}
    assert on_one_line("SELECT 1 -- one\n FROM x;") == "SELECT 1 FROM x"
