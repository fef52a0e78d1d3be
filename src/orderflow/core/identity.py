"""Stable identifiers: of messages, of locks, and of the partition that a record goes to.

The partition is the one that the Java client and librdkafka's `murmur2_random` choose. Source:
`org.apache.kafka.common.utils.Utils.murmur2` (MurmurHash 2.0, Austin Appleby, public domain) and Kafka's built-in
partitioner, `toPositive(murmur2(key)) % partitions`.
"""

from __future__ import annotations

import hashlib
import random
import struct
from functools import lru_cache
from uuid import UUID

import msgspec

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=4096)
def murmur2(data: bytes) -> int:
    """The 32-bit hash, unsigned (Java's is the same bits read as a signed int)."""
    length = len(data)
    words = length >> 2
    h = _SEED ^ length
    for k in struct.unpack_from(f"<{words}I", data):
        k = (k * _M) & _MASK  # noqa: PLW2901  # half the cost of a second name, and this is a hot path
        h = ((h * _M) ^ ((k ^ (k >> 24)) * _M)) & _MASK
    if length & 3:
        h = ((h ^ int.from_bytes(data[words << 2 :], "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


class Partitioner:
    """Chooses partitions: by the key's hash, or by `rng` for a record without a key."""

    __slots__ = ("_rng",)

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def partition(self, key: bytes | None, partitions: int) -> int:
        """A number in 0..partitions-1. An empty key is a key."""
        return self._rng.randrange(partitions) if key is None else partition_of(key, partitions)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: a number in 0..partitions-1."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


NAMESPACE = UUID("6f1a3f5e-5b0e-5c6e-9a7d-0d2f7c1b9e42")
_NAMESPACE_BYTES = NAMESPACE.bytes


def uuid5(name: str) -> UUID:
    """uuid5 (RFC 9562) in our namespace; the standard library's takes three times as long."""
    digest = bytearray(hashlib.sha1(_NAMESPACE_BYTES + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return msgspec.convert(bytes(digest), UUID)


def uuid_text(value: UUID) -> str:
    """The same as str(value), in a quarter of the time: it is called several times for each message."""
    text: str = msgspec.to_builtins(value)
    return text


def uuid_of(text: str) -> UUID:
    """Parse a UUID in its usual form. Raises ValueError."""
    return msgspec.convert(text, UUID)


def event_id(source: str, message_type: str, key: str, sequence: int) -> UUID:
    """uuid5 (RFC 9562) over (source, type, key, n): the same decision made twice is the same event."""
    return uuid5(f"{source}\n{message_type}\n{key}\n{sequence}")


def answer_id(intent: str, cause: UUID, attempts: int) -> UUID:
    """The id of the answer to an intent that was asked `attempts` times before."""
    return uuid5(f"answer\n{intent}\n{uuid_text(cause)}\n{attempts}")


def record_id(topic: str, partition: int, offset: int) -> UUID:
    """The id of a record without an id of its own, derived from its place in the log."""
    return uuid5(f"record\n{topic}\n{partition}\n{offset}")


def uuid7(wall_ms: int, rng: random.Random) -> UUID:
    """A time-ordered id (RFC 9562, UUIDv7): rows of new keys land at the end of their index."""
    value = (wall_ms & 0xFFFF_FFFF_FFFF) << 80 | rng.getrandbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def uuid7_ms(text: str) -> int | None:
    """When an id of version 7 was made, in ms since the epoch; None for any other text."""
    if len(text) != 36 or text[14] != "7":
        return None
    try:
        return int(text[:8] + text[9:13], 16)
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def lock_id(name: str) -> int:
    """The signed 64-bit number of the advisory lock for a key, and for the rows with that id."""
    digest = hashlib.blake2b(name.encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def slot_of(key: bytes | None, slots: int) -> int:
    """The outbox slot of a key: all rows of one key are relayed by one owner."""
    digest = hashlib.blake2b(key or b"", digest_size=4).digest()
    return int.from_bytes(digest, "big") % slots
