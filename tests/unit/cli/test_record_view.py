"""A record of the log, for programs and for people."""

from __future__ import annotations

import json

import pytest

from orderflow.cli.output import Output
from orderflow.cli.topic import document, parts
from orderflow.core.transport import ConsumerRecord, Headers

HEADERS: Headers = (
    ("ce_type", b"orderflow.OrderPlaced.v1"),
    ("ce_id", b"4711"),
    ("traceparent", b"00-1"),
    ("x", None),
)


def record(value: bytes | None, headers: Headers = HEADERS) -> ConsumerRecord:
    return ConsumerRecord("order-events", 2, 7, b"key", value, headers, 1_767_323_045_678)


def test_attributes_and_headers_are_told_apart_and_the_value_is_json() -> None:
    shown = document(record(b'{"total": 5}'))

    assert shown["attributes"] == {"type": "orderflow.OrderPlaced.v1", "id": "4711"}
    assert shown["headers"] == {"traceparent": "00-1", "x": None}
    assert shown["value"] == {"total": 5}
    assert (shown["topic"], shown["partition"], shown["offset"], shown["key"]) == ("order-events", 2, 7, "key")


@pytest.mark.parametrize("value", [b"not json", b"\xff\x00", b"NaN", b"[" * 100_000, b"9" * 5000])
def test_a_value_that_is_no_json_is_given_in_base64(value: bytes) -> None:
    shown = document(record(value))

    assert "value" not in shown
    json.dumps(shown, allow_nan=False)


def test_a_missing_value_is_null() -> None:
    assert document(record(None))["value"] is None


@pytest.mark.parametrize("value", [None, b"text [red]\x1b[31m", b"\xff\x00", b'{"a": "\x7f[red]\\u001b"}'])
def test_whatever_is_in_a_record_is_shown_harmlessly(value: bytes | None, capsys: pytest.CaptureFixture[str]) -> None:
    hostile: Headers = (("ce_type", b"\x1b]0;x\x07"), ("[red]", b"\xff\x9b"))
    Output().show(*parts(record(value, hostile)))

    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x7f", "\x9b"} & set(shown)
    assert "[red]" in shown


def test_a_record_of_somebody_else_has_no_type_and_is_shown_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    Output().show(*parts(record(b"{}", ())))

    assert "(no type)" in capsys.readouterr().out
