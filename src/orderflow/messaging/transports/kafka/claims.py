"""Whose topics and groups are. Kafka has no place to note that, so a topic of its own keeps the claims, in order."""

from __future__ import annotations

from orderflow.messaging.claims import Entry, decode, encode, entry_of, is_held, owners
from orderflow.messaging.transport import Claim, ProducerRecord, TopicSettings
from orderflow.messaging.transports.kafka.admin import Admin
from orderflow.messaging.transports.kafka.appender import Appender
from orderflow.messaging.transports.kafka.reader import Reader

FOR_EVER_MS = -1
CHUNK = 500


class Register:
    """One partition, kept for ever and not compacted: the first claim counts, and compaction keeps the last."""

    def __init__(self, name: str, admin: Admin, appender: Appender, reader: Reader) -> None:
        self._name = name
        self._admin = admin
        self._appender = appender
        self._reader = reader

    async def claim(self, claim: Claim) -> None:
        """Raises ClaimedError, TransportUnavailableError."""
        await self._admin.create([TopicSettings(self._name, 1, FOR_EVER_MS)])
        if is_held(claim, owners(await self._entries())):
            return
        entry = entry_of(claim)
        await self._appender.append([ProducerRecord(self._name, str(claim.owner).encode(), encode(entry))])
        # Somebody else's claim may stand before ours: the order of the log decides.
        is_held(claim, owners(await self._entries()))

    async def _entries(self) -> list[Entry]:
        first, end = (await self._admin.ends([self._name]))[self._name, 0]
        found: list[Entry] = []
        while first < end:
            records = await self._reader.read(self._name, 0, first, min(CHUNK, end - first))
            if not records:
                break
            found += [entry for record in records if (entry := decode(record.value)) is not None]
            first = records[-1].offset + 1
        return found
