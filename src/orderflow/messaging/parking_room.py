"""How many keys may be parked at one consumer, so that what is parked stays a number that people can look at."""

from __future__ import annotations

from orderflow.messaging.clock import Clock
from orderflow.messaging.store import Changes, Store

LOOK_S = 30.0
LOOK_WHEN_FULL_S = 1.0


class ParkingRoom:
    """Counts what this process parks, and looks into the database now and then: others park there and take out too.

    So the bound is kept to within a batch of each process. Nothing is asked of the database while nothing is parked.
    """

    def __init__(self, consumer: str, store: Store, keys_max: int, clock: Clock) -> None:
        self._consumer = consumer
        self._store = store
        self._keys_max = keys_max
        self._clock = clock
        self._parked = 0
        self._look_at = 0.0

    @property
    def left(self) -> int:
        """So many more keys may be parked."""
        return max(0, self._keys_max - self._parked)

    async def look(self) -> None:
        """Count anew if it is time. Raises StoreUnavailableError."""
        if self._parked and self._clock.monotonic() >= self._look_at:
            self._parked = await self._store.parked_keys(self._consumer, self._keys_max)
            self._look_at = self._clock.monotonic() + (LOOK_S if self.left else LOOK_WHEN_FULL_S)

    def took(self, changes: Changes, *, holding: bool) -> None:
        """This has been written. Unless a fold was `holding`, what it held was behind a parked event: no new key."""
        keys = {event.key for event in changes.parked if event.attempts or holding}
        if keys and not self._parked:
            self._look_at = 0.0
        self._parked += len(keys)
        if not self.left:
            self._look_at = min(self._look_at, self._clock.monotonic() + LOOK_WHEN_FULL_S)
