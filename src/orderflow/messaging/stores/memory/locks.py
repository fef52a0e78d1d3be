"""Locks of transactions, waited for on the event loop in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque

from orderflow.messaging.store import StoreUnavailableError

Waiter = tuple[object, asyncio.Future[None]]


class Locks:
    """One holder a number. A holder may take a number again; taking numbers in sorted order cannot deadlock."""

    def __init__(self) -> None:
        self._holders: dict[int, object] = {}
        self._waiters: dict[int, deque[Waiter]] = {}
        self._held: dict[object, list[int]] = {}

    async def take(self, owner: object, number: int) -> None:
        """Wait for the lock. Raises what `fail_waiters` was given."""
        holder = self._holders.setdefault(number, owner)
        if holder is owner:
            self._note(owner, number)
            return
        waiter = (owner, asyncio.get_running_loop().create_future())
        self._waiters.setdefault(number, deque()).append(waiter)
        await waiter[1]

    def release_all(self, owner: object) -> None:
        """Hand each lock of `owner` to who waits longest for it; `owner` itself waits for nothing any more."""
        for queue in self._waiters.values():
            for waiter in [each for each in queue if each[0] is owner]:
                queue.remove(waiter)
                if not waiter[1].done():
                    waiter[1].set_exception(StoreUnavailableError("the session was ended"))
        for number in self._held.pop(owner, []):
            self._hand_on(number)

    def fail_waiters(self, error: Exception) -> None:
        """The server is gone: nobody holds anything any more, and all who wait are told."""
        waiting = [waiter for queue in self._waiters.values() for waiter in queue]
        self._holders.clear()
        self._waiters.clear()
        self._held.clear()
        for _, future in waiting:
            if not future.done():
                future.set_exception(error)

    def _hand_on(self, number: int) -> None:
        del self._holders[number]
        queue = self._waiters.get(number)
        while queue:
            owner, future = queue.popleft()
            if not future.done():
                self._holders[number] = owner
                self._note(owner, number)
                future.set_result(None)
                break
        if not queue:
            self._waiters.pop(number, None)

    def _note(self, owner: object, number: int) -> None:
        held = self._held.setdefault(owner, [])
        if number not in held:
            held.append(number)
