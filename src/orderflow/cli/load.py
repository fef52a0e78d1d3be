"""Many orders at a rate: planned by a seed, placed, followed to their end, and counted."""

from __future__ import annotations

import asyncio
import math
import random
import signal
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from uuid import uuid4

import msgspec

from orderflow.cli.http import ClientTls
from orderflow.load.client import (
    PRICES,
    SOLD_OUT_SKU,
    Endpoint,
    HttpReply,
    LoadClient,
    LostError,
    NothingAnswersError,
)

APPROVED = "approved"
DECLINED = "declined"
NO_FUNDS = "no funds"
SOLD_OUT = "sold out"
SLOW = "slow bank"
LOST_CHARGED = "time-out, charged"
LOST_NOT_CHARGED = "time-out, not charged"
BANK_FAULTS = "bank fails twice"

SHARES: Mapping[str, float] = MappingProxyType(
    {
        APPROVED: 0.888,
        DECLINED: 0.04,
        NO_FUNDS: 0.03,
        SOLD_OUT: 0.03,
        SLOW: 0.005,
        LOST_CHARGED: 0.002,
        LOST_NOT_CHARGED: 0.002,
        BANK_FAULTS: 0.003,
    }
)
"""Kind → share of all orders. A kind that is rare comes early once, so that a small run shows it too."""

CUSTOMERS = 5000
FIRST_RARE, RARE_EVERY = 3, 2

_METHODS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        APPROVED: ("pm_card_visa", "pm_card_mastercard", "pm_card_amex", "pm_card_visa_debit"),
        DECLINED: ("pm_card_chargeDeclined",),
        NO_FUNDS: ("pm_card_chargeDeclinedInsufficientFunds",),
        SOLD_OUT: ("pm_card_visa",),
        SLOW: ("pm_slow",),
        LOST_CHARGED: ("pm_timeout_charged",),
        LOST_NOT_CHARGED: ("pm_timeout_not_charged",),
        BANK_FAULTS: ("pm_fails_twice",),
    }
)
COMPLETED = "COMPLETED"
FAILED = "FAILED"
TIMEOUT_S = 30.0
PATIENCE_S = 15.0
PAUSE_S = 0.25
PAUSE_MAX_S = 5.0
BUSY = frozenset({409, 429, 503})
SAMPLES_MAX = 256
SAMPLES_PER_S = 200.0
HELD_S = 20.0
SWEEP_EVERY_S = 0.25
REST_SHARE = 4.0
SWEEP_PAUSE_S = 0.5
PAGE = 100
LOOK_EVERY_S = 0.05
REFUNDS_EVERY_S = 0.25
SUM_UP_SHARE = 0.1
SUM_UP_MAX_S = 5.0


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """What will be posted. `kind` says what to expect of it."""

    kind: str
    body: bytes


def plan(count: int, seed: int) -> Iterator[PlannedOrder]:
    """`count` orders; made one by one, so that a long plan needs no room."""
    rng = random.Random(seed)  # noqa: S311  (a mix of demo orders, nothing secret)
    kinds, weights = list(SHARES), list(SHARES.values())
    encode = msgspec.json.Encoder().encode
    for number in range(count):
        kind = _early(number, kinds) or rng.choices(kinds, weights)[0]
        yield PlannedOrder(kind, encode(_order(kind, rng)))


def _early(number: int, kinds: list[str]) -> str | None:
    """The second kind for the fourth order, the third for the sixth, and so on."""
    position, between = divmod(number - FIRST_RARE, RARE_EVERY)
    rare = kinds[1:]
    return rare[position] if not between and 0 <= position < len(rare) else None


def _order(kind: str, rng: random.Random) -> dict[str, object]:
    skus = list(PRICES)
    lines = rng.choices((1, 2, 3, 4), (0.55, 0.27, 0.12, 0.06))[0]
    chosen = {skus[min(int(rng.expovariate(0.35)), len(skus) - 1)] for _ in range(lines)}
    items = [
        {"sku": sku, "quantity": rng.choices((1, 2, 3), (0.75, 0.2, 0.05))[0], "unit_price": PRICES[sku]}
        for sku in sorted(chosen)
    ]
    if kind == SOLD_OUT:
        items.append({"sku": SOLD_OUT_SKU, "quantity": 1, "unit_price": 2500})
    return {
        "customer_id": f"customer-{min(int(rng.paretovariate(1.1)), CUSTOMERS)}",
        "currency": rng.choices(("EUR", "USD", "JPY"), (0.8, 0.15, 0.05))[0],
        "items": items,
        "payment_method": rng.choice(_METHODS[kind]),
    }


@dataclass(slots=True)
class Followed:
    """An order that was accepted. `started` is on the monotonic clock, in s; `status` None: not final yet."""

    kind: str
    started: float
    status: str | None = None
    reason: str = ""
    refund: str = "none"


@dataclass(slots=True)
class Tally:
    """`accepted_s` and `final_s` are latencies: the first of all orders, the second of those in the sample."""

    asked: int
    began: float = 0.0
    placing_ended: float = 0.0
    ended: float = 0.0
    interrupted: bool = False
    lost_contact: bool = False
    time_is_up: bool = False
    orders: dict[str, Followed] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)
    accepted_s: array[float] = field(default_factory=lambda: array("d"))
    final_s: array[float] = field(default_factory=lambda: array("d"))
    retries: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def accept(self, order_id: str, kind: str, started: float, now: float) -> None:
        """An order was answered with 201."""
        self.orders[order_id] = Followed(kind, started)
        self.unfinished.add(order_id)
        self.accepted_s.append(now - started)

    def finish(self, order_id: str) -> None:
        """It is final; how, is learnt later where it is not said by `learn`."""
        self.unfinished.discard(order_id)

    def learn(self, order_id: str, status: str, reason: str | None, refund: str) -> None:
        order = self.orders[order_id]
        order.status, order.reason, order.refund = status, reason or "", refund

    @property
    def placed(self) -> int:
        return len(self.orders)

    @property
    def final(self) -> int:
        return len(self.orders) - len(self.unfinished)

    def refunds_due(self) -> list[str]:
        """Orders whose money has still to go back."""
        return [order_id for order_id, order in self.orders.items() if order.refund == "due"]


def percentiles(seconds: array[float]) -> dict[str, float | int]:
    """p50, p90, p99 and max in ms (nearest rank), and how many were measured; only that when none was."""
    ordered = sorted(seconds)
    count = len(ordered)
    if not count:
        return {"measured": 0}
    ranks = {f"p{share}": ordered[max(0, -(-count * share // 100) - 1)] for share in (50, 90, 99)}
    shown = {name: round(value * 1000, 2) for name, value in {**ranks, "max": ordered[-1]}.items()}
    return {**shown, "measured": count}


class Accepted(msgspec.Struct):
    """What is read of the answer to a placed order."""

    id: str


class LoadRun:
    """Every order has an Idempotency-Key, so that one whose answer was lost is asked again, not placed again.

    At a rate an order's latency counts from the moment at which it was to be sent, so that a service
    which stalls cannot hide it by keeping the client from sending.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        orders: Iterator[PlannedOrder],
        tally: Tally,
        *,
        run_id: str,
        rate: float | None,
        accepted: Callable[[str, float], None],
    ) -> None:
        self._endpoint = endpoint
        self._orders = enumerate(orders)
        self._tally = tally
        self._run_id = run_id
        self._rate = rate
        self._accepted = accepted
        self._decode = msgspec.json.Decoder(Accepted).decode
        self._heard = time.monotonic()
        self.stopped = False

    async def run(self, workers: int) -> None:
        """Return when all orders are placed, or `stopped` is set, or nothing answers any more."""
        self._heard = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        client = LoadClient(self._endpoint)
        try:
            for number, order in self._orders:
                started = await self._turn(number)
                if self.stopped:
                    return
                await self._place(client, number, order, started)
        finally:
            client.close()

    async def _turn(self, number: int) -> float:
        """Wait for the moment at which this order is due."""
        now = time.monotonic()
        if self._rate is None:
            return now
        due = self._tally.began + number / self._rate
        while due > now and not self.stopped:
            await asyncio.sleep(min(due - now, PAUSE_S))
            now = time.monotonic()
        return due

    async def _place(self, client: LoadClient, number: int, order: PlannedOrder, started: float) -> None:
        key = b'idempotency-key: "demo-%b-%d"\r\n' % (self._run_id.encode(), number)
        request = self._endpoint.send(b"POST", "/orders", order.body, key)
        while not self.stopped:
            try:
                reply = await client.ask(request, TIMEOUT_S)
            except (LostError, NothingAnswersError) as error:
                await self._bear(error)
                continue
            self._heard = time.monotonic()
            if reply.status in BUSY:
                self._tally.retries[f"{reply.status}"] += 1
                await asyncio.sleep(min(reply.retry_after_s or PAUSE_S, PAUSE_MAX_S))
                continue
            self._note(reply, order.kind, started)
            return

    def _note(self, reply: HttpReply, kind: str, started: float) -> None:
        if reply.status != 201:
            self._tally.errors[f"{reply.status}: {reply.body[:300].decode(errors='replace')}"] += 1
            return
        try:
            order_id = self._decode(reply.body).id
        except msgspec.DecodeError:
            self._tally.errors["201 without an order"] += 1
            return
        self._tally.accept(order_id, kind, started, time.monotonic())
        self._accepted(order_id, started)

    async def _bear(self, error: Exception) -> None:
        """A service that is restarted is waited for; one that stays away ends the run."""
        self._tally.retries["no answer" if isinstance(error, LostError) else "no connection"] += 1
        if time.monotonic() - self._heard > PATIENCE_S:
            self._tally.lost_contact = True
            self.stopped = True
            return
        await asyncio.sleep(PAUSE_S)


class Listed(msgspec.Struct):
    """What is read of an order."""

    id: str
    status: str
    reason: str | None = None
    refund: str = "none"


class Page(msgspec.Struct):
    """What is read of a list."""

    orders: list[Listed]
    next: str | None = None


class Following:
    """`accepted` is called for each order that was placed; `run` until it is cancelled."""

    def __init__(self, endpoint: Endpoint, tally: Tally) -> None:
        self._endpoint = endpoint
        self._tally = tally
        self._one = msgspec.json.Decoder(Listed).decode
        self._page = msgspec.json.Decoder(Page).decode
        self._idle: list[LoadClient] = []
        self._sampled: dict[str, asyncio.Task[None]] = {}
        self._tokens = float(SAMPLES_MAX)
        self._refilled = time.monotonic()

    def accepted(self, order_id: str, started: float) -> None:
        """Take it into the sample, if there is room."""
        now = time.monotonic()
        self._tokens = min(SAMPLES_MAX, self._tokens + (now - self._refilled) * SAMPLES_PER_S)
        self._refilled = now
        if self._tokens >= 1 and len(self._sampled) < SAMPLES_MAX:
            self._tokens -= 1
            self._sampled[order_id] = asyncio.create_task(self._wait_for(order_id, started))

    async def run(self) -> None:
        """Find what has become final, again and again, at a bounded share of the time."""
        client = LoadClient(self._endpoint)
        try:
            while True:
                began = time.monotonic()
                if len(self._tally.unfinished) > len(self._sampled):
                    await self._sweep(client)
                spent_s = time.monotonic() - began
                await asyncio.sleep(max(SWEEP_EVERY_S, REST_SHARE * spent_s))
        finally:
            client.close()
            self._cancel()

    async def learn_outcomes(self) -> None:
        """How every final order ended: FAILED as the list says, COMPLETED the others."""
        tally = self._tally
        if not tally.orders:
            return
        client = LoadClient(self._endpoint)
        try:
            async for order in self._list(client, FAILED, min(tally.orders)):
                if order.id in tally.orders:
                    tally.finish(order.id)
                    tally.learn(order.id, order.status, order.reason, order.refund)
        finally:
            client.close()
        for order_id, followed in tally.orders.items():
            if followed.status is None and order_id not in tally.unfinished:
                followed.status = COMPLETED

    async def _wait_for(self, order_id: str, started: float) -> None:
        client = self._idle.pop() if self._idle else LoadClient(self._endpoint)
        request = self._endpoint.get(f"/orders/{order_id}?wait={HELD_S:g}")
        try:
            while order_id in self._tally.unfinished:
                try:
                    reply = await client.ask(request, TIMEOUT_S)
                except (LostError, NothingAnswersError):
                    await asyncio.sleep(SWEEP_PAUSE_S)
                    continue
                if reply.status != 200:
                    await asyncio.sleep(SWEEP_PAUSE_S)
                    continue
                order = self._one(reply.body)
                if order.status in (COMPLETED, FAILED):
                    self._tally.final_s.append(time.monotonic() - started)
                    self._tally.finish(order_id)
                    self._tally.learn(order_id, order.status, order.reason, order.refund)
        finally:
            del self._sampled[order_id]
            self._idle.append(client)

    async def _sweep(self, client: LoadClient) -> None:
        """Orders only move forward, so the lists are read in that order: nothing can slip between them."""
        known = {order_id for order_id in self._tally.unfinished if order_id not in self._sampled}
        if not known:
            return
        oldest = min(known)
        try:
            for status in ("PENDING", "PAID"):
                async for order in self._list(client, status, oldest):
                    known.discard(order.id)
        except (LostError, NothingAnswersError):
            return
        for order_id in known:
            self._tally.finish(order_id)

    async def _list(self, client: LoadClient, status: str, oldest: str) -> AsyncIterator[Listed]:
        """Orders of a status, newest first, down to the id `oldest`. Raises LostError, NothingAnswersError."""
        cursor = ""
        while True:
            path = f"/orders?status={status}&limit={PAGE}{cursor}"
            reply = await client.ask(self._endpoint.get(path), TIMEOUT_S)
            if reply.status != 200:
                raise LostError(f"the list was answered with {reply.status}")
            page = self._page(reply.body)
            for order in page.orders:
                if order.id < oldest:
                    return
                yield order
            if page.next is None:
                return
            cursor = f"&cursor={page.next}"

    def _cancel(self) -> None:
        for task in list(self._sampled.values()):
            task.cancel()
        for client in self._idle:
            client.close()


Limit = Callable[[float], asyncio.Timeout]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What is asked for. All is over after `timeout_s`, whatever answers, and when all are placed and none
    has become final for `patience_s`.
    """

    orders: int
    rate: float | None
    concurrency: int
    seed: int
    timeout_s: float
    patience_s: float = math.inf


def perform(
    url: str,
    wish: LoadOptions,
    notify: Callable[[Tally], None],
    tls: ClientTls | None = None,
    limit: Limit = asyncio.timeout,
) -> Tally:
    """Run it to its end, or to the first Ctrl-C; `notify` is called about twenty times a second.

    `limit` makes, of a time in s, what ends the run when that is up.
    """
    tally = Tally(wish.orders)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_perform(Endpoint(url, (tls or ClientTls()).context), wish, tally, notify, limit))
    return tally


async def _perform(
    endpoint: Endpoint, wish: LoadOptions, tally: Tally, notify: Callable[[Tally], None], limit: Limit
) -> None:
    following = Following(endpoint, tally)
    placing = LoadRun(
        endpoint,
        plan(wish.orders, wish.seed),
        tally,
        run_id=uuid4().hex[:12],
        rate=wish.rate,
        accepted=following.accepted,
    )

    def stop() -> None:
        tally.interrupted = True
        placing.stopped = True

    tally.began = time.monotonic()
    sum_up_s = min(SUM_UP_MAX_S, SUM_UP_SHARE * wish.timeout_s)
    sweeping = asyncio.create_task(following.run())
    telling = asyncio.create_task(_tell(tally, notify))
    try:
        with _on_interrupt(stop):
            async with limit(wish.timeout_s - sum_up_s):
                await placing.run(min(wish.concurrency, wish.orders))
                tally.placing_ended = time.monotonic()
                await _until_final(tally, following, wish.patience_s)
    except TimeoutError:
        tally.time_is_up = True
    finally:
        tally.ended = tally.ended or time.monotonic()
        tally.placing_ended = tally.placing_ended or tally.ended
        for task in (sweeping, telling):
            task.cancel()
        await asyncio.gather(sweeping, telling, return_exceptions=True)
        notify(tally)
    left_s = tally.began + wish.timeout_s - time.monotonic()
    await _sum_up(tally, following, max(sum_up_s, min(SUM_UP_MAX_S, left_s)))


async def _until_final(tally: Tally, following: Following, patience_s: float) -> None:
    """Return when every order is final and no refund is due, when it is over, or when patience is."""
    final, since = tally.final, time.monotonic()
    while not (tally.interrupted or tally.lost_contact):
        pause_s = LOOK_EVERY_S
        if tally.final > final:
            final, since = tally.final, time.monotonic()
        if time.monotonic() - since > patience_s:
            return
        if not tally.unfinished:
            tally.ended = tally.ended or time.monotonic()
            pause_s = REFUNDS_EVERY_S
            with suppress(LostError, NothingAnswersError):
                await following.learn_outcomes()
                if not tally.refunds_due():
                    return
        await asyncio.sleep(pause_s)


async def _sum_up(tally: Tally, following: Following, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await following.learn_outcomes()
    except (LostError, NothingAnswersError):
        tally.lost_contact = True
    except TimeoutError:
        tally.time_is_up = True


async def _tell(tally: Tally, notify: Callable[[Tally], None]) -> None:
    while True:
        notify(tally)
        await asyncio.sleep(LOOK_EVERY_S)


@contextmanager
def _on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C stops in good order, the second one at once."""
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)

    def first(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        loop.call_soon_threadsafe(stop)

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
