"""Shops: they order, repeat requests that were not answered, and remember what they were promised."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from orderflow.core.identity import uuid7
from orderflow.events.order import Item
from orderflow.services.inventory.messages import SetStock
from orderflow.services.order.api import fingerprint, with_response
from orderflow.services.order.messages import Placed, PlaceOrder
from orderflow.simulation.loop import seeded
from orderflow.simulation.model import ExpectedOrder
from orderflow.simulation.world import World

STOCK: Mapping[str, int] = MappingProxyType({"plenty": 1_000, "scarce": 3, "none": 0})
PRICES = (1, 99, 500, 1_000_000_000)
METHODS = (
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_chargeDeclined",
    "pm_slow",
    "pm_timeout_charged",
    "pm_timeout_not_charged",
    "pm_fails_twice",
    "pm_card_refundFail",
)
ANSWER_WITHIN_S = 3.0
TRIES_MAX = 40
ASK_EVERY_S = 0.1


class Wish(msgspec.Struct, frozen=True):
    """What a shop wants, as it would stand in a request's body."""

    customer_id: str
    currency: str
    items: tuple[Item, ...]
    payment_method: str


@dataclass(slots=True)
class Promised:
    """What shops were answered: the orders that exist by a 2xx, and the answers that contradict each other."""

    accepted: dict[str, None] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)


class Shops:
    """All orders of a world."""

    def __init__(self, world: World) -> None:
        self.promised = Promised()
        self._world = world
        self._rng = seeded(world.plan.seed, "shops")
        self._known: dict[str, str] = {}
        self._wishes: dict[str, Wish] = {}

    async def fill(self) -> None:
        """Put the stock in."""
        for sku, on_hand in STOCK.items():
            await self._answer(SetStock(sku=sku, on_hand=on_hand, only_if_new=True), "inventory")

    async def open(self) -> None:
        """Order; return when every shop has its answer or has given up."""
        shops = [self._shop(number) for number in range(self._world.plan.orders)]
        await asyncio.gather(*shops)

    async def _shop(self, number: int) -> None:
        """One order. With a key it is asked for until it is answered, sometimes twice at once."""
        rng = self._rng
        wish = self._wish()
        key = f"key-{number}" if rng.random() < 0.7 else None
        await asyncio.sleep(rng.random() * (0.2 if self._world.plan.at_once else self._world.plan.troubled_s / 3))
        if key is None:
            await self._order(wish, None)
            return
        if rng.random() < 0.3:
            await asyncio.gather(self._until_answered(wish, key), self._until_answered(wish, key))
        else:
            await self._until_answered(wish, key)
        if rng.random() < 0.3:
            await self._order(wish, key)
        if self._world.plan.reuses_keys and rng.random() < 0.5 and key in self._known:
            await self._reuse(key, wish)

    async def _reuse(self, key: str, before: Wish) -> None:
        """The same key with another order: that is refused, whatever becomes of the first."""
        other = msgspec.structs.replace(self._wish(), customer_id=f"not {before.customer_id}")
        answer = await self._answer(self._command(other, key), "order")
        if isinstance(answer, Placed):
            self.promised.contradictions.append(f"{key} came with another order, and was answered {answer.order_id}")

    async def restock(self, sku: str, on_hand: int) -> None:
        """Somebody states how many units are free."""
        await self._answer(SetStock(sku=sku, on_hand=on_hand, only_if_new=False), "inventory")

    async def ask_again(self) -> None:
        """When everything works, who repeats a request is answered as before, and who orders gets an order: soon, as
        a process may still wait before it tries again what had failed.
        """
        one = self._wish()
        for _ in range(TRIES_MAX):
            if await self._order(one, None):
                break
            await asyncio.sleep(ASK_EVERY_S)
        else:
            self.promised.contradictions.append("nobody can order, although everything works")
        for key, wish in self._wishes.items():
            if not await self._order(wish, key):
                self.promised.contradictions.append(f"{key} was promised {self._known[key]}, and is not answered now")

    async def _until_answered(self, wish: Wish, key: str) -> None:
        for _ in range(TRIES_MAX):
            if await self._order(wish, key):
                return
            await asyncio.sleep(0.05 + 0.2 * self._rng.random())

    async def _order(self, wish: Wish, key: str | None) -> bool:
        """One request. True: it was answered with a 2xx."""
        answer = await self._answer(self._command(wish, key), "order")
        if not isinstance(answer, Placed):
            return False
        order_id = str(answer.order_id)
        self._is_told_so(order_id, wish, answer.response)
        self._world.note("shop", f"is promised {order_id} for {key}")
        self.promised.accepted[order_id] = None
        if key is not None and self._known.setdefault(key, order_id) != order_id:
            self.promised.contradictions.append(f"{key} is {self._known[key]} and {order_id}")
        if key is not None:
            self._wishes[key] = wish
        return True

    def _is_told_so(self, order_id: str, wish: Wish, body: str) -> None:
        """The answer says what was ordered, in whole numbers."""
        said = msgspec.json.decode(body)
        total = sum(item.quantity * item.unit_price for item in wish.items)
        found = (said.get("id"), said.get("currency"), said.get("total"))
        if found != (order_id, wish.currency, total) or type(said.get("total")) is not int:
            self.promised.contradictions.append(f"answered is {found}, right is {(order_id, wish.currency, total)}")

    async def _answer(self, command: PlaceOrder | SetStock, service: str) -> object:
        """What the service says; None: an error, or nothing in time."""
        task = self._world.submit(service, command)
        if task is None:
            return None
        task.add_done_callback(_heard)
        await asyncio.wait([task], timeout=ANSWER_WITHIN_S)
        if not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    def _command(self, wish: Wish, key: str | None) -> PlaceOrder:
        order_id = uuid7(self._world.clock.wall_ms(), self._rng)
        self._world.model.expected[str(order_id)] = ExpectedOrder(
            customer_id=wish.customer_id,
            currency=wish.currency,
            lines=tuple((item.sku, item.quantity, item.unit_price) for item in wish.items),
            payment_method=wish.payment_method,
        )
        command = PlaceOrder(
            order_id=order_id,
            customer_id=wish.customer_id,
            currency=wish.currency,
            items=wish.items,
            payment_method=wish.payment_method,
            idempotency_key=key,
            fingerprint=fingerprint(wish) if key is not None else "",
        )
        return with_response(command)

    def _wish(self) -> Wish:
        rng, plan = self._rng, self._world.plan
        skus = rng.sample(["plenty", "scarce"], k=2 if plan.at_once else rng.choice((1, 1, 2)))
        if rng.random() < plan.out_of_stock:
            skus.append("none")
        if plan.varied:
            rng.shuffle(skus)
        prices = PRICES if plan.varied else range(1, 501)
        items = tuple(Item(sku=sku, quantity=rng.randint(1, 2), unit_price=rng.choice(prices)) for sku in skus)
        customer = f"customer-{rng.randint(1, 3)}"
        method = "pm_card_visa" if plan.at_once and rng.random() < 0.7 else rng.choice(METHODS)
        return Wish(customer, rng.choice(plan.currencies), items, method)


def _heard(task: asyncio.Task[object]) -> None:
    """An answer that comes when nobody waits any more is no error that nobody has seen."""
    if not task.cancelled():
        task.exception()
