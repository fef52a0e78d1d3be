"""Records that no consumer can read: each is one well-formed event with one thing wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from orderflow.core import envelopes
from orderflow.core.identity import uuid7
from orderflow.core.messages import Envelope
from orderflow.core.transport import MAX_HEADERS, MAX_RECORD_BYTES, Headers, ProducerRecord, size_of
from orderflow.events.order import Item
from orderflow.events.payment import PaymentSucceeded

MEBIBYTE = 1024 * 1024
DEEP = 100_000
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnirts\u2066\r\n\x00"
Change = Callable[[ProducerRecord], ProducerRecord]


def good(topic: str) -> ProducerRecord:
    """An event that the inventory service handles."""
    order_id = uuid7(1_700_000_000_000, random.Random())
    event = PaymentSucceeded(
        order_id=order_id,
        customer_id="customer",
        currency="EUR",
        items=(Item(sku="none", quantity=1, unit_price=100),),
        total=100,
    )
    envelope = Envelope(id=uuid4(), message=event, source="/orderflow/payment", key=str(order_id), sequence=1)
    headers = envelopes.with_time(envelopes.to_headers(envelope), 1_700_000_000_000)
    return ProducerRecord(topic, envelope.key.encode(), msgspec.json.encode(event), headers)


def corpus(topic: str) -> Mapping[str, ProducerRecord]:
    """By what is wrong with it."""
    return {name: change(good(topic)) for name, change in CHANGES.items()}


def _value(value: bytes | None) -> Change:
    return lambda record: replace(record, value=value)


def replaced_text(record: ProducerRecord, old: bytes, new: bytes) -> ProducerRecord:
    """The record with another text in its value."""
    assert record.value is not None
    assert old in record.value
    return replace(record, value=record.value.replace(old, new))


def _text(old: bytes, new: bytes) -> Change:
    return lambda record: replaced_text(record, old, new)


def _key(key: bytes | None) -> Change:
    return lambda record: replace(record, key=key)


def _header(name: str, value: bytes | None) -> Change:
    return lambda record: replace(record, headers=(*_without(record.headers, name), (name, value)))


def _no_header(name: str) -> Change:
    return lambda record: replace(record, headers=_without(record.headers, name))


def _without(headers: Headers, name: str) -> Headers:
    return tuple(header for header in headers if header[0] != name)


def _headers(headers: Headers) -> Change:
    return lambda record: replace(record, headers=headers)


def full_records(topic: str) -> Mapping[str, ProducerRecord]:
    """Nobody can read these, and `filled` they are as large as the log takes. By what they are full of."""
    changes: Mapping[str, Change] = {
        "headers without a name": _headers((("", None),) * 99_990),
        "empty headers": _headers((("", b""),) * MAX_HEADERS),
        "short headers": _headers(tuple((f"h{n}", b"v") for n in range(90_000))),
        "a header": _header("h", b"\xff" * 1_500_000),
        "a key": _key(b"k\xff" * 600_000),
        "a value": _value(b""),
    }
    return {name: change(good(topic)) for name, change in changes.items()}


def filled(record: ProducerRecord) -> ProducerRecord:
    return replace(record, value=b"\x00" * (MAX_RECORD_BYTES - size_of(record)))


CHANGES: Mapping[str, Change] = {
    "an empty value": _value(b""),
    "a tombstone": _value(None),
    "1 MiB of one letter": _value(b"x" * MEBIBYTE),
    "1 MiB in a string": _text(b'"customer"', b'"' + b"y" * MEBIBYTE + b'"'),
    "bad UTF-8 in a string": _text(b'"customer"', b'"\xff\xfe\xc0\x80"'),
    "a lone surrogate": _text(b'"customer"', b'"\\ud800"'),
    "NUL and control codes": _value(HOSTILE.encode()),
    "not a number": _text(b'"total":100', b'"total":NaN'),
    "infinity": _text(b'"total":100', b'"total":-Infinity'),
    "a fraction": _text(b'"total":100', b'"total":100.5'),
    "a huge integer": _text(b'"total":100', b'"total":' + b"9" * 5000),
    "an integer just over 64 bits": _text(b'"total":100', b'"total":18446744073709551616'),
    "a negative amount": _text(b'"total":100', b'"total":-1'),
    "deep lists": _value(b"[" * DEEP + b"]" * DEEP),
    "deep objects": _text(b'"customer"', b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "a name twice": _text(b'"total":100', b'"total":999,"total":100'),
    "a name twice in an item": _text(b'"quantity":1', b'"quantity":7,"quantity":1'),
    "half of it": _text(b'"total":100}', b'"total":1'),
    "two documents": _text(b'"total":100}', b'"total":100}{}'),
    "a list": _value(b"[]"),
    "null": _value(b"null"),
    "no order id": _text(b'"order_id"', b'"order"'),
    "no key": _key(None),
    "an empty key": _key(b""),
    "a key of another order": _key(str(uuid4()).encode()),
    "a key of 10 kB": _key(b"k" * 10_000),
    "a key that is no text": _key(b"\xff\x00\xfe"),
    "a hostile key": _key(HOSTILE.encode()),
    "no headers": _headers(()),
    "no type": _no_header("ce_type"),
    "no id": _no_header("ce_id"),
    "no source": _no_header("ce_source"),
    "no spec version": _no_header("ce_specversion"),
    "another spec version": _header("ce_specversion", b"0.3"),
    "an unknown type": _header("ce_type", b"orderflow.Unheard.v1"),
    "an unknown version": _header("ce_type", b"orderflow.PaymentSucceeded.v99"),
    "a hostile type": _header("ce_type", HOSTILE.encode()),
    "a type that is no text": _header("ce_type", b"\xfe\xff"),
    "a type without value": _header("ce_type", None),
    "a type of 100 kB": _header("ce_type", b"t" * 100_000),
    "the wrong subject": _header("ce_subject", str(uuid4()).encode()),
    "a sequence in other digits": _header("ce_sequence", "٣".encode()),
    "a negative sequence": _header("ce_sequence", b"-1"),
    "500 headers": _headers(tuple((f"h{n}", b"v") for n in range(500))),
    "a hostile header": _headers(((HOSTILE.replace("\x00", ""), HOSTILE.encode()),)),
}
