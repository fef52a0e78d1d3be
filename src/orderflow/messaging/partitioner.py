"""Which partition a record goes to: the same answer as the Java client and librdkafka's `murmur2_random`.

Source: `org.apache.kafka.common.utils.Utils.murmur2` (MurmurHash 2.0, Austin Appleby, public domain) and
Kafka's built-in partitioner, `toPositive(murmur2(key)) % partitions`.
"""

from __future__ import annotations

import random
import struct

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


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
    """Chooses partitions: by the key's hash, or by `chance` for a record without a key."""

    __slots__ = ("_chance",)

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def partition(self, key: bytes | None, partitions: int) -> int:
        """A number in 0..partitions-1. An empty key is a key."""
        if key is None:
            return self._chance.randrange(partitions)
        return (murmur2(key) & 0x7FFFFFFF) % partitions
