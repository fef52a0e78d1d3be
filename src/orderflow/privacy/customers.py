"""What a service asks about customers: a pseudonym for a name, the name behind a pseudonym, and to forget one."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from orderflow.core.timing import Clock
from orderflow.privacy.key_store import KeyStore
from orderflow.privacy.pseudonyms import MasterKey, WrappedKey, key_id_of

ERASED = "(erased)"
"""What is shown of a customer whose key was destroyed."""

STALE_S = 2.0
"""So long after an erasure every process has forgotten the key."""

REMEMBERED_MAX = 50_000
UNIT_SEPARATOR = "\x1f"
GROUP_MAX = 500


class Customers(Protocol):
    """All raise StoreUnavailableError: the keys cannot be reached.

    A customer is somebody of one shop (None: of a house that tells no shops apart): of two shops, it is two persons.
    """

    def known(self, name: str, shop: str | None = None) -> str | None:
        """The pseudonym, if this process remembers it and need not ask whether it still may."""
        ...

    async def conceal(self, name: str, shop: str | None = None) -> str:
        """The pseudonym of a customer, who gets a key where he has none."""
        ...

    async def find(self, name: str, shop: str | None = None) -> str | None:
        """The pseudonym of a customer who has a key; None: he has none, or what he is called is not concealed."""
        ...

    async def reveal(self, pseudonyms: Collection[str]) -> Mapping[str, str]:
        """The name behind each; `(erased)` where the key is gone. Clear text is itself."""
        ...

    async def erase(self, name: str, shop: str | None, who: str, reason: str) -> str | None:
        """Destroy the customer's key: returns his last pseudonym once no process can read it; None: he had no key."""
        ...


class ClearCustomers:
    """Names stay as they are: nobody has set a master key."""

    def known(self, name: str, shop: str | None = None) -> str | None:
        return name

    async def conceal(self, name: str, shop: str | None = None) -> str:
        return name

    async def find(self, name: str, shop: str | None = None) -> str | None:
        return None

    async def reveal(self, pseudonyms: Collection[str]) -> Mapping[str, str]:
        return {each: each for each in pseudonyms}

    async def erase(self, name: str, shop: str | None, who: str, reason: str) -> str | None:
        return None


class ConcealedCustomers:
    """One a process. Those that ask at the same time are asked for together, in one statement.

    What is remembered counts for STALE_S after the last look for erasures; the first who asks after that waits for
    another look.
    """

    def __init__(self, keys: KeyStore, master: MasterKey, clock: Clock) -> None:
        self._keys = keys
        self._master = master
        self._clock = clock
        self._pseudonyms: dict[str, str] = {}
        self._persons: dict[str, str] = {}
        self._looked_at = float("-inf")
        self._erasure = 0
        self._gone: set[bytes] = set()
        self._looking: asyncio.Task[None] | None = None
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """To be awaited first. Raises WrongMasterKeyError, StoreUnavailableError, SchemaBehindError."""
        await self._keys.claim(self._master)
        self._erasure = await self._keys.last_erasure()
        self._looked_at = self._clock.monotonic()

    def known(self, name: str, shop: str | None = None) -> str | None:
        return self._pseudonyms.get(_person(name, shop)) if self._is_fresh() else None

    async def conceal(self, name: str, shop: str | None = None) -> str:
        await self._refresh()
        person = _person(name, shop)
        remembered = self._pseudonyms.get(person)
        if remembered is not None:
            return remembered
        future = self._waiting.get(person)
        if future is None:
            future = self._waiting[person] = asyncio.get_running_loop().create_future()
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return await asyncio.shield(future)

    async def find(self, name: str, shop: str | None = None) -> str | None:
        person = _person(name, shop)
        kept = await self._keys.find(self._master.lookup(person))
        return None if kept is None else self._master.pseudonym(kept, person)

    async def reveal(self, pseudonyms: Collection[str]) -> Mapping[str, str]:
        await self._refresh()
        ids = {text: key_id for text in pseudonyms if (key_id := key_id_of(text)) is not None}
        unknown = {text: key_id for text, key_id in ids.items() if text not in self._persons}
        if unknown:
            found = {kept.id: kept for kept in await self._keys.by_id(set(unknown.values()))}
            for text, key_id in unknown.items():
                if key_id in found and (person := self._read(found[key_id], text)) is not None:
                    self._remember(text, person)
        return {text: _name(self._persons.get(text, ERASED)) if text in ids else text for text in pseudonyms}

    async def erase(self, name: str, shop: str | None, who: str, reason: str) -> str | None:
        person = _person(name, shop)
        lookup = self._master.lookup(person)
        kept = await self._keys.find(lookup)
        if kept is None or await self._keys.erase(lookup, who, reason) is None:
            return None
        pseudonym = self._master.pseudonym(kept, person)
        await self._look()
        await self._clock.sleep(STALE_S)
        return pseudonym

    async def close(self) -> None:
        for task in (self._looking, self._asking):
            if task is not None:
                task.cancel()
        await self._keys.close()

    async def ping(self) -> None:
        """Raises StoreUnavailableError."""
        await self._keys.ping()

    def _is_fresh(self) -> bool:
        return self._clock.monotonic() - self._looked_at < STALE_S

    async def _refresh(self) -> None:
        """Those who wait for a look share it. One that fails fails for all of them."""
        if self._is_fresh():
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())
        await asyncio.shield(self._looking)

    async def _look(self) -> None:
        """Forget whose key was destroyed since the last look."""
        began = self._clock.monotonic()
        gone = await self._keys.erasures(self._erasure)
        if gone:
            self._erasure = gone[-1][0]
            self._gone.update(key_id for _, key_id in gone)
            for text in [text for text in self._persons if key_id_of(text) in self._gone]:
                self._pseudonyms.pop(self._persons.pop(text), None)
        self._looked_at = began

    async def _ask(self) -> None:
        try:
            while self._waiting:
                names = list(self._waiting)[:GROUP_MAX]
                await self._answer({name: self._waiting.pop(name) for name in names})
        finally:
            self._asking = None

    async def _answer(self, asked: Mapping[str, asyncio.Future[str]]) -> None:
        try:
            found = await self._keys.keep([self._master.new_key(name) for name in asked])
            made = [self._master.pseudonym(kept, name) for kept, name in zip(found, asked, strict=True)]
        except Exception as error:  # noqa: BLE001  # whatever it is, those who wait for it must be told
            _fail(list(asked.values()), error)
            return
        for (name, future), pseudonym in zip(asked.items(), made, strict=True):
            self._remember(pseudonym, name)
            if not future.done():
                future.set_result(pseudonym)

    def _read(self, kept: WrappedKey, pseudonym: str) -> str | None:
        try:
            return self._master.name(kept, pseudonym)
        except ValueError:
            return None

    def _remember(self, pseudonym: str, name: str) -> None:
        """Not what was destroyed between the asking and the answer."""
        if self._gone and key_id_of(pseudonym) in self._gone:
            return
        self._persons[pseudonym] = name
        self._pseudonyms[name] = pseudonym
        if len(self._persons) > REMEMBERED_MAX:
            oldest = next(iter(self._persons))
            self._pseudonyms.pop(self._persons.pop(oldest), None)


def _person(name: str, shop: str | None) -> str:
    """What a key belongs to. What stands between the two can be in neither."""
    return name if shop is None else f"{shop}{UNIT_SEPARATOR}{name}"


def _name(person: str) -> str:
    return person.rpartition(UNIT_SEPARATOR)[2]


def _fail(futures: Sequence[asyncio.Future[str]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(copy.copy(error))
