"""A system that is busy and well: nothing is named for any of its orders."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.causes.stage import NONE, PLENTY, Stage
from tests.e2e.shop import VISA
from tests.support.waiting import eventually

DECLINED = "pm_card_chargeDeclined"
MIX: Sequence[tuple[str, str]] = ((PLENTY, VISA), (PLENTY, DECLINED), (PLENTY, VISA), (NONE, VISA))
SIDE_BY_SIDE = 16


@dataclass(slots=True)
class Busy:
    """`orders` went through, of which so many were `explained` on their way and afterwards; `named` is what was said
    to hold one of them up.
    """

    orders: int
    explained: int = 0
    named: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        found = "; ".join(self.named) or "no cause is named for any, and `orderflow stuck` is empty"
        return f"On a system that is busy and well, {self.explained} of {self.orders} orders were explained: {found}."


async def busy(stage: Stage, orders: int) -> Busy:
    """Orders are placed as fast as the shop can, and explained as they go."""
    found = Busy(orders)
    wanted = [MIX[number % len(MIX)] for number in range(orders)]
    placing = asyncio.create_task(stage.shop.place_many(wanted, side_by_side=SIDE_BY_SIDE))
    await eventually(lambda: stage.shop.accepted)
    while not placing.done():
        await _look(stage, next(reversed(stage.shop.accepted)), found)
    for order_id in (await placing)[:: max(1, orders // 10)]:
        await _look(stage, order_id, found)
    told = await stage.command("stuck", "--json")
    found.named += [group["cause"]["why"] for group in json.loads(told.stdout)["groups"]]
    await stage.shop.ends_of(list(placing.result()))
    return found


async def _look(stage: Stage, order_id: str, found: Busy) -> None:
    told = await stage.command("order", "explain", order_id, "--json")
    assert told.code in {0, 1}, told.stderr
    found.explained += 1
    found.named += [f"{each['kind']}: {each['why']}" for each in json.loads(told.stdout)["causes"]]
