"""The wire format: CloudEvents in Kafka binary mode, checked with the SDK and against hostile input."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from orderflow.core import envelopes
from orderflow.core.envelopes import from_record
from orderflow.core.messages import Catalogue, Envelope, UndecodableError
from orderflow.core.transport import ConsumerRecord
from tests.unit.core.toy import Counted, Opened
from tests.unit.core.world import TRACE, record_of

CATALOGUE = Catalogue((Counted, Opened))
EVENT = Counted(name="k", amount=3)


def with_header(record: ConsumerRecord, name: str, value: bytes | None) -> ConsumerRecord:
    others = tuple(each for each in record.headers if each[0] != name)
    return replace(record, headers=(*others, (name, value)))


def without_header(record: ConsumerRecord, name: str) -> ConsumerRecord:
    return replace(record, headers=tuple(each for each in record.headers if each[0] != name))


def test_what_we_write_the_cloudevents_sdk_reads() -> None:
    cause = uuid4()
    envelope = Envelope(
        id=uuid4(), message=EVENT, source="/toy", key="k", sequence=7, causation=cause, traceparent=TRACE
    )
    headers = envelopes.with_time(envelopes.to_headers(envelope), 1_700_000_000_123)

    read = from_binary(
        KafkaMessage({name: value or b"" for name, value in headers}, b"k", msgspec.json.encode(EVENT)), JSONFormat()
    )

    assert read.get_id() == str(envelope.id)
    assert read.get_type() == "toy.Counted.v1"
    assert read.get_source() == "/toy"
    assert read.get_subject() == "k"
    assert read.get_specversion() == "1.0"
    assert read.get_datacontenttype() == "application/json"
    time = read.get_time()
    assert time is not None
    assert time.isoformat() == "2023-11-14T22:13:20.123000+00:00"
    assert read.get_extension("sequence") == "7"
    assert read.get_extension("causationid") == str(cause)
    assert read.get_data() == {"name": "k", "amount": 3}


def test_what_the_cloudevents_sdk_writes_we_read() -> None:
    event = CloudEvent(
        attributes={
            "id": "any text",
            "type": "toy.Counted.v1",
            "source": "/elsewhere",
            "subject": "k",
            "datacontenttype": "application/json",
            "sequence": "12",
            "partitionkey": "k",
        },
        data={"name": "k", "amount": 3},
    )
    message = to_binary(event, JSONFormat())

    headers = tuple(message.headers.items())
    envelope = envelopes.read(ConsumerRecord("counts", 0, 0, b"k", message.value, headers), CATALOGUE)

    assert envelope.message == EVENT
    assert envelope.source == "/elsewhere"
    assert envelope.sequence == 12


def test_an_envelope_survives_the_wire() -> None:
    identifier = uuid4()
    record = record_of(EVENT, offset=0, event_id=identifier, trace=TRACE, sequence=9)

    envelope = envelopes.read(record, CATALOGUE)

    assert (envelope.id, envelope.message, envelope.key) == (identifier, EVENT, "k")
    assert (envelope.sequence, envelope.traceparent) == (9, TRACE)


def test_an_id_that_is_no_uuid_is_stable_and_differs_by_source() -> None:
    record = with_header(record_of(EVENT, offset=0), "ce_id", b"42")
    elsewhere = with_header(record, "ce_source", b"/other")

    ids = {envelopes.read(each, CATALOGUE).id for each in (record, record, elsewhere)}

    assert len(ids) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_specversion", b"0.3"),
        ("ce_specversion", None),
        ("ce_id", b""),
        ("ce_id", b"\xff\xfe"),
        ("ce_type", b"\x80"),
        ("ce_source", b""),
        ("ce_subject", b"another"),
        ("ce_sequence", b"-1"),
        ("ce_sequence", b""),
        ("ce_sequence", "\N{ARABIC-INDIC DIGIT ONE}".encode()),
        ("ce_sequence", b"9" * 5000),
    ],
)
def test_a_header_that_makes_no_sense_is_malformed(name: str, value: bytes | None) -> None:
    record = with_header(record_of(EVENT, offset=0), name, value)

    with pytest.raises(UndecodableError) as caught:
        envelopes.read(record, CATALOGUE)

    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("name", ["ce_specversion", "ce_id", "ce_type", "ce_source"])
def test_a_required_attribute_that_is_missing_is_malformed(name: str) -> None:
    with pytest.raises(UndecodableError, match=f"header {name} is missing"):
        envelopes.read(without_header(record_of(EVENT, offset=0), name), CATALOGUE)


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"another", b"k\x00", b"K"])
def test_a_key_that_is_not_the_events_is_malformed(key: bytes | None) -> None:
    with pytest.raises(UndecodableError):
        envelopes.read(replace(record_of(EVENT, offset=0), key=key), CATALOGUE)


def test_a_key_that_is_not_the_events_is_malformed_without_a_subject_too() -> None:
    record = without_header(record_of(EVENT, offset=0), "ce_subject")

    with pytest.raises(UndecodableError, match="is not the event's"):
        envelopes.read(replace(record, key=b"another"), CATALOGUE)


def test_a_key_that_no_index_could_hold_is_malformed() -> None:
    with pytest.raises(UndecodableError, match="no usable key"):
        envelopes.read(record_of(Counted(name="k" * 201, amount=1), offset=0), CATALOGUE)


@pytest.mark.parametrize(
    "value", [b"", b"{", b"[]", b'{"name":"k"}', b'{"name":"k","amount":"3"}', b"\xff", b"[" * 9000]
)
def test_a_value_that_does_not_fit_its_type_is_malformed(value: bytes) -> None:
    with pytest.raises(UndecodableError) as caught:
        envelopes.read(replace(record_of(EVENT, offset=0), value=value), CATALOGUE)

    assert caught.value.reason == "malformed"


def test_a_tombstone_is_malformed() -> None:
    with pytest.raises(UndecodableError, match="no value"):
        envelopes.read(replace(record_of(EVENT, offset=0), value=None), CATALOGUE)


@pytest.mark.parametrize(
    ("name", "reason"),
    [(b"toy.Counted.v2", "unknown-version"), (b"toy.Counted", "unknown-type"), (b"toy.Other.v1", "unknown-type")],
)
def test_unknown_types_and_versions_are_told_apart(name: bytes, reason: str) -> None:
    with pytest.raises(UndecodableError) as caught:
        envelopes.read(with_header(record_of(EVENT, offset=0), "ce_type", name), CATALOGUE)

    assert caught.value.reason == reason


@pytest.mark.parametrize("value", [b"\xff", b"garbage", b"00-0-0-0\x00", None, b""])
def test_a_trace_that_cannot_be_read_does_not_refuse_the_event(value: bytes | None) -> None:
    envelope = envelopes.read(with_header(record_of(EVENT, offset=0), "traceparent", value), CATALOGUE)

    assert envelope.traceparent is None


def test_foreign_headers_are_left_alone() -> None:
    record = record_of(EVENT, offset=0)
    hostile = replace(record, headers=(*record.headers, ("ce_weird", b"\xff"), ("", b"\x00"), ("x" * 9000, None)))

    assert envelopes.read(hostile, CATALOGUE).message == EVENT


hostile_headers = st.lists(
    st.tuples(
        st.sampled_from(
            ["ce_id", "ce_type", "ce_source", "ce_specversion", "ce_sequence", "ce_subject", "traceparent"]
        )
        | st.text(),
        st.none() | st.binary(max_size=40) | st.sampled_from([b"1.0", b"toy.Counted.v1", b"k"]),
    ),
    max_size=8,
).map(tuple)


@given(headers=hostile_headers, key=st.none() | st.binary(max_size=300), value=st.none() | st.binary(max_size=60))
def test_whatever_stands_in_a_topic_becomes_a_message_or_a_problem(
    headers: tuple[tuple[str, bytes | None], ...], key: bytes | None, value: bytes | None
) -> None:
    incoming = from_record(ConsumerRecord("counts", 1, 5, key, value, headers), CATALOGUE)

    assert (incoming.envelope is None) != (incoming.problem is None)
    for text in (incoming.key, incoming.identity, incoming.event_type):
        assert "\x00" not in text
        text.encode()
    assert 0 < len(incoming.key) <= 220
    assert isinstance(incoming.event_id, UUID)


def test_an_event_type_that_happens_once_a_key_is_known_by_its_type() -> None:
    first = from_record(record_of(Opened(name="k"), offset=0), CATALOGUE)
    second = from_record(record_of(Opened(name="k"), offset=1), CATALOGUE)
    other = from_record(record_of(EVENT, offset=2), CATALOGUE)

    assert first.event_id != second.event_id
    assert first.identity == second.identity == "toy.Opened"
    assert other.identity == str(other.event_id)
