"""CloudEvents 1.0 in Kafka binary content mode: attributes as `ce_` headers, the data as the value.

Spec: CloudEvents Kafka protocol binding 1.0.2; extensions: sequence, causationid, and W3C traceparent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID

from orderflow.core.identity import uuid5, uuid_of, uuid_text
from orderflow.core.messages import MALFORMED, Catalogue, Envelope, UndecodableError, wire_name
from orderflow.core.transport import UNREADABLE_HEADERS, ConsumerRecord, Headers

KEY_MAX = 200
TIME_HEADER = "ce_time"
READ = frozenset(("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_sequence", "ce_causationid"))
_SPECVERSION = ("ce_specversion", b"1.0")
_CONTENT_TYPE = ("content-type", b"application/json")
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def to_headers(envelope: Envelope) -> Headers:
    """All attributes but `time`, which the relay takes from the database row (`with_time`)."""
    headers: list[tuple[str, bytes | None]] = [
        _SPECVERSION,
        ("ce_id", uuid_text(envelope.id).encode()),
        ("ce_type", wire_name(type(envelope.message)).encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_subject", envelope.key.encode()),
        _CONTENT_TYPE,
    ]
    if envelope.sequence is not None:
        headers.append(("ce_sequence", b"%d" % envelope.sequence))
    if envelope.causation is not None:
        headers.append(("ce_causationid", uuid_text(envelope.causation).encode()))
    if envelope.traceparent is not None:
        headers.append(("traceparent", envelope.traceparent.encode()))
    return tuple(headers)


def with_time(headers: Headers, created_at_ms: int) -> Headers:
    """The headers with `time` (RFC 3339, UTC, ms)."""
    return (*headers, (TIME_HEADER, rfc3339(created_at_ms)))


def read(record: ConsumerRecord, catalogue: Catalogue) -> Envelope:
    """The envelope of a record. Raises UndecodableError; it never raises anything else."""
    try:
        attributes = _attributes(record.headers)
        key = (record.key or b"").decode()
    except UnicodeDecodeError as error:
        raise UndecodableError(MALFORMED, f"not UTF-8: {error}") from error
    for name, wanted in (("ce_specversion", "1.0"), ("ce_id", ""), ("ce_type", ""), ("ce_source", "")):
        value = attributes.get(name)
        if not value or (wanted and value != wanted):
            unreadable = header_text(record.headers, UNREADABLE_HEADERS)
            if unreadable:
                raise UndecodableError(
                    MALFORMED, f"a header's name is not UTF-8, so that none can be read: {unreadable}"
                )
            raise UndecodableError(MALFORMED, f"header {name} is {value!r}")
    if record.value is None:
        raise UndecodableError(MALFORMED, "no value")
    message = catalogue.decode(attributes["ce_type"], record.value)
    _require_key(message.key, key, attributes.get("ce_subject"))
    return Envelope(
        id=_uuid(attributes["ce_id"], attributes["ce_source"]),
        message=message,
        source=attributes["ce_source"],
        key=key,
        sequence=_sequence(attributes.get("ce_sequence")),
        causation=_optional_uuid(attributes.get("ce_causationid")),
        traceparent=traceparent_of(record.headers),
    )


def type_of(record: ConsumerRecord) -> bytes | None:
    """The `type` attribute as it stands in the headers, without reading anything else of the record."""
    for name, value in reversed(record.headers):
        if name == "ce_type" and value is not None:
            return value
    return None


def header_text(headers: Sequence[tuple[str, bytes | None]], name: str) -> str:
    """The last header of that name as text, hostile bytes escaped; "" when there is none."""
    for header, value in reversed(headers):
        if header == name and value is not None:
            return value.decode("utf-8", "backslashreplace")
    return ""


def traceparent_of(headers: Headers) -> str | None:
    """The trace, if it can be read. If not, that is no reason to refuse the event (W3C Trace Context, 4.3)."""
    for name, value in reversed(headers):
        if name == "traceparent" and value is not None and TRACEPARENT.fullmatch(value):
            return value.decode()
    return None


def rfc3339(ms: int) -> bytes:
    """A moment in ms since the epoch as text, UTC. Rows of a batch were mostly made in the same second."""
    return b"%b.%03dZ" % (_second(ms // 1000), ms % 1000)


@lru_cache(maxsize=64)
def _second(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


def _attributes(headers: Headers) -> dict[str, str]:
    return {name: value.decode() for name, value in headers if value is not None and name in READ}


def _require_key(said: str, key: str, subject: str | None) -> None:
    if not key or "\x00" in key or len(key) > KEY_MAX:
        raise UndecodableError(MALFORMED, "the record has no usable key")
    if said != key:
        raise UndecodableError(MALFORMED, f"the record's key {key!r} is not the event's {said!r}")
    if subject is not None and subject != key:
        raise UndecodableError(MALFORMED, f"ce_subject {subject!r} is not the record's key {key!r}")


def _uuid(text: str, source: str) -> UUID:
    """Ids of other producers may be any text, unique within their source (CloudEvents 1.0, `id`)."""
    return _optional_uuid(text) or uuid5(f"foreign\n{source}\n{text}")


def _optional_uuid(text: str | None) -> UUID | None:
    try:
        return uuid_of(text) if text else None
    except ValueError:
        return None


def _sequence(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise UndecodableError(MALFORMED, f"header ce_sequence is {text!r}")
    return int(text)
