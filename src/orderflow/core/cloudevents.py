"""CloudEvents 1.0 in Kafka binary content mode: attributes as `ce_` headers, the data as the value.

Spec: CloudEvents Kafka protocol binding 1.0.2; extensions: sequence, causationid, and W3C traceparent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from uuid import UUID

from orderflow.core.identity import uuid5, uuid_of, uuid_text
from orderflow.core.messages import MALFORMED, Catalogue, Envelope, Message, UndecodableError, wire_name
from orderflow.core.transport import UNREADABLE_HEADERS, ConsumerRecord, Headers

KEY_MAX = 200
TIME_HEADER = "ce_time"
READ = frozenset(("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_sequence", "ce_causationid"))
_SPECVERSION = ("ce_specversion", b"1.0")
_CONTENT_TYPE = ("content-type", b"application/json")
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def to_headers(envelope: Envelope) -> Headers:
    """All attributes but `time`, which the relay takes from the database row (`with_time`)."""
    headers: tuple[tuple[str, bytes | None], ...] = (
        _SPECVERSION,
        ("ce_id", uuid_text(envelope.id).encode()),
        _type_header(type(envelope.message)),
        ("ce_source", envelope.source.encode()),
        ("ce_subject", envelope.key.encode()),
        _CONTENT_TYPE,
    )
    if envelope.sequence is not None:
        headers += (("ce_sequence", b"%d" % envelope.sequence),)
    if envelope.causation is not None:
        headers += (("ce_causationid", uuid_text(envelope.causation).encode()),)
    if envelope.traceparent is not None:
        headers += (("traceparent", envelope.traceparent.encode()),)
    return headers


@cache
def _type_header(message_type: type[Message]) -> tuple[str, bytes]:
    return ("ce_type", wire_name(message_type).encode())


def with_time(headers: Headers, created_at_ms: int) -> Headers:
    """The headers with `time` (RFC 3339, UTC, ms)."""
    return (*headers, (TIME_HEADER, rfc3339(created_at_ms)))


def read(record: ConsumerRecord, catalogue: Catalogue) -> Envelope:
    """The envelope of a record. Raises UndecodableError; it never raises anything else."""
    headers = dict(record.headers)
    if len(headers) < len(record.headers):
        headers = {name: value for name, value in record.headers if value is not None}
    attribute = headers.get
    told, event_type, source = attribute("ce_id"), attribute("ce_type"), attribute("ce_source")
    if attribute("ce_specversion") != _SPECVERSION[1] or not told or not event_type or not source:
        raise _incomplete(headers)
    try:
        key, name, producer = (record.key or b"").decode(), event_type.decode(), source.decode()
        event_id = _uuid(told.decode(), producer)
        causation = _optional_uuid((attribute("ce_causationid") or b"").decode())
    except UnicodeDecodeError as error:
        raise UndecodableError(MALFORMED, f"not UTF-8: {error}") from error
    if record.value is None:
        raise UndecodableError(MALFORMED, "no value")
    message = catalogue.decode(name, record.value)
    _require_key(message.key, key, record.key, attribute("ce_subject"))
    return Envelope(
        id=event_id,
        message=message,
        source=producer,
        key=key,
        sequence=_sequence(attribute("ce_sequence")),
        causation=causation,
        traceparent=traceparent_of(record.headers) if "traceparent" in headers else None,
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
            return _shown(value)
    return ""


def traceparent_of(headers: Headers) -> str | None:
    """The trace, if it can be read. If not, that is no reason to refuse the event (W3C Trace Context, 4.3)."""
    for name, value in reversed(headers):
        if name == "traceparent" and value is not None and TRACEPARENT.fullmatch(value):
            return value.decode()
    return None


@lru_cache(maxsize=64)
def rfc3339(ms: int) -> bytes:
    """A moment in ms since the epoch as text, UTC. Rows of a batch were mostly made in the same few ms."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def _incomplete(headers: Mapping[str, bytes | None]) -> UndecodableError:
    """Which attribute is missing, or makes no sense."""
    unreadable = _shown(headers.get(UNREADABLE_HEADERS) or b"")
    if unreadable:
        return UndecodableError(MALFORMED, f"a header's name is not UTF-8, so that none can be read: {unreadable}")
    name = "ce_specversion"
    if headers.get(name) == _SPECVERSION[1]:
        name = next(name for name in ("ce_id", "ce_type", "ce_source") if not headers.get(name))
    value = headers.get(name)
    return UndecodableError(MALFORMED, f"header {name} is {value if value is None else _shown(value)!r}")


def _require_key(said: str, key: str, key_bytes: bytes | None, subject: bytes | None) -> None:
    if not key or "\x00" in key or len(key) > KEY_MAX:
        raise UndecodableError(MALFORMED, "the record has no usable key")
    if said != key:
        raise UndecodableError(MALFORMED, f"the record's key {key!r} is not the event's {said!r}")
    if subject is not None and subject != key_bytes:
        raise UndecodableError(MALFORMED, f"ce_subject {_shown(subject)!r} is not the record's key {key!r}")


def _uuid(text: str, source: str) -> UUID:
    """Ids of other producers may be any text, unique within their source (CloudEvents 1.0, `id`)."""
    return _optional_uuid(text) or uuid5(f"foreign\n{source}\n{text}")


def _optional_uuid(text: str) -> UUID | None:
    try:
        return uuid_of(text) if text else None
    except ValueError:
        return None


def _sequence(digits: bytes | None) -> int | None:
    if digits is None:
        return None
    if not (digits.isdigit() and len(digits) <= 18):
        raise UndecodableError(MALFORMED, f"header ce_sequence is {_shown(digits)!r}")
    return int(digits)


def _shown(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
