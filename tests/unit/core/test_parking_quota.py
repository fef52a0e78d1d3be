"""How many more keys may be parked at a consumer: counted here at once, and in the database now and then."""

from __future__ import annotations

from orderflow.core.decisions import LOOK_S, LOOK_WHEN_FULL_S, ParkingQuota
from tests.unit.core.still_clock import StillClock
from tests.unit.core.toy import Counted
from tests.unit.core.world import World

KEYS_MAX = 5


class QuotaHolder:
    """A process that may park so many keys at a consumer. Others park there and take out too."""

    def __init__(self) -> None:
        self.world, self._clock = World(), StillClock()
        self.quota = ParkingQuota("counter", self.world.store, KEYS_MAX, self._clock)

    async def parks(self, *names: str) -> None:
        await self.others_park(*names)
        self.quota.record(self.world.committed[-1], holding=False)

    async def others_park(self, *names: str) -> None:
        await self.world.admit(*(Counted(name=name, amount=-1) for name in names))

    def others_take_out(self, *names: str) -> None:
        parked = self.world.database.state.parked
        for position in [position for position, waiting in parked.items() if waiting.event.key in names]:
            del parked[position]

    async def asks(self, after_s: float = 0.0) -> bool:
        """Whether a look asks the database, after so much more time."""
        self._clock.now += after_s
        before = self.world.steps.count("read")
        await self.quota.refresh()
        return self.world.steps.count("read") > before


async def test_while_nothing_is_parked_here_the_database_is_not_asked() -> None:
    holder = QuotaHolder()
    await holder.others_park("x")
    await holder.world.admit(Counted(name="fine", amount=1))
    holder.quota.record(holder.world.committed[-1], holding=False)

    assert not await holder.asks()
    assert not await holder.asks(after_s=LOOK_S)
    assert holder.quota.left == KEYS_MAX


async def test_a_key_counts_once_and_what_is_held_behind_it_not_at_all() -> None:
    holder = QuotaHolder()
    await holder.parks("a", "b", "a")
    assert holder.quota.left == KEYS_MAX - 2

    await holder.parks("a")

    assert holder.quota.left == KEYS_MAX - 2


async def test_a_key_counts_too_whose_events_are_held_without_a_try() -> None:
    holder, world = QuotaHolder(), World()
    await world.processor.hold("counter", [world.read(Counted(name=name, amount=1)) for name in ("a", "a", "b")])

    holder.quota.record(world.committed[-1], holding=True)

    assert holder.quota.left == KEYS_MAX - 2


async def test_of_more_keys_than_may_be_parked_none_is_left() -> None:
    holder = QuotaHolder()

    await holder.parks(*(f"k{n}" for n in range(KEYS_MAX + 1)))

    assert holder.quota.left == 0


async def test_when_the_first_key_is_parked_those_of_others_are_counted_at_once_and_then_after_a_pause() -> None:
    holder = QuotaHolder()
    await holder.others_park("x", "y")
    await holder.parks("a")
    assert await holder.asks()
    assert holder.quota.left == KEYS_MAX - 3

    await holder.parks("b")
    holder.others_take_out("x", "y", "a")

    assert not await holder.asks(after_s=LOOK_S - 1)
    assert holder.quota.left == KEYS_MAX - 4
    assert await holder.asks(after_s=1)
    assert holder.quota.left == KEYS_MAX - 1


async def test_once_nothing_is_parked_any_more_it_begins_anew() -> None:
    holder = QuotaHolder()
    await holder.parks("a")
    holder.others_take_out("a")
    assert await holder.asks()
    assert not await holder.asks()

    await holder.others_park("x")
    await holder.parks("b")

    assert await holder.asks()
    assert holder.quota.left == KEYS_MAX - 2


async def test_while_no_room_is_left_it_looks_more_often_so_that_room_is_found_soon() -> None:
    holder = QuotaHolder()
    await holder.parks("a")
    assert await holder.asks()
    await holder.parks("b", "c", "d", "e")

    assert not await holder.asks()
    assert await holder.asks(after_s=LOOK_WHEN_FULL_S)
    assert not await holder.asks()
    holder.others_take_out("a")
    assert await holder.asks(after_s=LOOK_WHEN_FULL_S)

    assert holder.quota.left == 1
    assert not await holder.asks(after_s=LOOK_WHEN_FULL_S)
