"""The keys of customers in a database of their own."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import asyncpg

from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.schema import MigrationSequence
from orderflow.core.postgres.sessions import Connections
from orderflow.privacy.pseudonyms import MasterKey, WrappedKey, WrongMasterKeyError

PACKAGE = "orderflow.privacy"
CONNECTIONS_MAX = 2
PATIENCE_S = 5.0


def keys_migrations() -> MigrationSequence:
    """The tables of the keys database."""
    return MigrationSequence.from_package("keys", PACKAGE)


class KeyStore:
    """All raise StoreUnavailableError, SchemaBehindError."""

    def __init__(self, url: str) -> None:
        self._queries = load_queries(PACKAGE)
        self._connections = Connections(
            url,
            application_name="orderflow keys",
            limit=CONNECTIONS_MAX,
            patience_s=PATIENCE_S,
            lookups_only=True,
        )

    async def claim(self, master: MasterKey) -> None:
        """Note which master key the keys here are wrapped under. Raises WrongMasterKeyError: it is another one."""
        rows = await self._fetch("keep_master", master.fingerprint)
        if rows[0]["fingerprint"] != master.fingerprint:
            raise WrongMasterKeyError

    async def keep(self, keys: Sequence[WrappedKey]) -> Sequence[WrappedKey]:
        """Keep these for customers that have no key; returns the one that each has, made here or before."""
        found: dict[bytes, WrappedKey] = {}
        missing = {key.lookup: key for key in keys}
        while missing:
            columns = zip(*missing.values(), strict=True)
            found |= {row["lookup"]: WrappedKey(*row) for row in await self._fetch("keep_keys", *columns)}
            missing = {lookup: key for lookup, key in missing.items() if lookup not in found}
        return [found[key.lookup] for key in keys]

    async def find(self, lookup: bytes) -> WrappedKey | None:
        """The key of a customer."""
        rows = await self._fetch("key_of", lookup)
        return WrappedKey(*rows[0]) if rows else None

    async def by_id(self, ids: Collection[bytes]) -> Sequence[WrappedKey]:
        """Those of the keys that there are."""
        return [WrappedKey(*row) for row in await self._fetch("keys_by_id", list(ids))]

    async def last_erasure(self) -> int:
        """The number of the last key that was destroyed; 0 before the first."""
        return int((await self._fetch("last_erasure"))[0]["number"])

    async def erasures(self, after: int) -> Sequence[tuple[int, bytes]]:
        """Number and key of each erasure after that number, in order."""
        return [(row["number"], row["key_id"]) for row in await self._fetch("erasures", after)]

    async def erase(self, lookup: bytes, who: str, reason: str) -> bytes | None:
        """Destroy the key of a customer, for good, with a note of who did it; its id, or None: there is none."""
        async with self._connections.transaction() as connection:
            await connection.execute(self._queries["lock_erasures"])
            gone: bytes | None = await connection.fetchval(self._queries["erase"], lookup, who, reason)
        return gone

    async def ping(self) -> None:
        """Raises StoreUnavailableError."""
        await self.last_erasure()

    async def close(self) -> None:
        await self._connections.close()

    async def _fetch(self, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
        return await self._connections.fetch(self._queries[query], *arguments)
