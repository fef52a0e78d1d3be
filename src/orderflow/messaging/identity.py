"""Stable names for messages and locks."""

from __future__ import annotations

import hashlib
import random
from uuid import UUID, uuid5

NAMESPACE = UUID("6f1a3f5e-5b0e-5c6e-9a7d-0d2f7c1b9e42")


def event_id(source: str, message_type: str, key: str, sequence: int) -> UUID:
    """uuid5 (RFC 9562) over (source, type, key, n): the same decision made twice is the same event."""
    return uuid5(NAMESPACE, f"{source}\n{message_type}\n{key}\n{sequence}")


def record_id(topic: str, partition: int, offset: int) -> UUID:
    """The identity of a record that has none of its own: where it stands in the log."""
    return uuid5(NAMESPACE, f"record\n{topic}\n{partition}\n{offset}")


def uuid7(wall_ms: int, chance: random.Random) -> UUID:
    """A time-ordered id (RFC 9562, UUIDv7): rows of new keys land at the end of their index."""
    value = (wall_ms & 0xFFFF_FFFF_FFFF) << 80 | chance.getrandbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def lock_id(name: str) -> int:
    """A signed 64-bit advisory lock for a key, or for the rows of that id."""
    digest = hashlib.blake2b(name.encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def slot_of(key: bytes | None, slots: int) -> int:
    """The outbox slot of a key: all rows of one key are relayed by one owner."""
    digest = hashlib.blake2b(key or b"", digest_size=4).digest()
    return int.from_bytes(digest, "big") % slots
