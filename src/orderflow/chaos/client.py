"""The load: an open loop of orders at a rate, as careful shops and impatient ones send them, and reads.

What a client saw is kept in the manner of Jepsen: each request is invoked, and ends ok, failed or unknown.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orderflow.load.client import PRICES, SOLD_OUT_SKU, Endpoint, HttpReply, LostError, NothingAnswersError, Pool

CUSTOMER: Final = "chaos-"

APPROVED, DECLINED, SOLD_OUT, SLOW = "approved", "declined", "sold out", "slow bank"
LOST_CHARGED, LOST_NOT_CHARGED, FAILS_TWICE = "time-out, charged", "time-out, not charged", "bank fails twice"
INVALID = "invalid"
METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    APPROVED: ("pm_card_visa", "pm_card_mastercard", "pm_card_amex"),
    DECLINED: ("pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds"),
    SOLD_OUT: ("pm_card_visa",),
    SLOW: ("pm_slow",),
    LOST_CHARGED: ("pm_timeout_charged",),
    LOST_NOT_CHARGED: ("pm_timeout_not_charged",),
    FAILS_TWICE: ("pm_fails_twice",),
    INVALID: ("pm_card_visa",),
}
SHARES: Final[Mapping[str, float]] = {
    APPROVED: 0.80,
    DECLINED: 0.08,
    SOLD_OUT: 0.05,
    SLOW: 0.015,
    LOST_CHARGED: 0.01,
    LOST_NOT_CHARGED: 0.01,
    FAILS_TWICE: 0.015,
    INVALID: 0.02,
}
WITH_KEY, REPEATED, OTHER_BODY = 0.9, 0.04, 0.02


@dataclass(frozen=True, slots=True)
class OrderToPlace:
    """An order that is to be placed. `customer` is its alone, so it is found whatever became of the answer.

    `key` is None where none is sent. `repeated`: the same request is sent again after the answer; `other_body`:
    another one is, under the same key.
    """

    number: int
    kind: str
    body: Mapping[str, Any]
    total: int
    key: str | None
    repeated: bool = False
    other_body: bool = False

    @property
    def customer(self) -> str:
        return str(self.body["customer_id"])


def wanted(seed: int, number: int) -> OrderToPlace:
    """The order of that number: the same seed gives the same one."""
    rng = random.Random(f"order {seed} {number}")  # noqa: S311  (a mix of orders, nothing secret)
    kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
    items = _items(kind, rng)
    total = sum(item["quantity"] * item["unit_price"] for item in items)
    body = {
        "customer_id": f"{CUSTOMER}{number}",
        "currency": rng.choices(("EUR", "USD", "JPY"), (0.7, 0.2, 0.1))[0],
        "items": items,
        "payment_method": rng.choice(METHODS[kind]),
    }
    key = f"chaos-{seed}-{number}" if rng.random() < WITH_KEY else None
    kept = key is not None and kind != INVALID
    return OrderToPlace(
        number, kind, body, total, key, kept and rng.random() < REPEATED, kept and rng.random() < OTHER_BODY
    )


def _items(kind: str, rng: random.Random) -> list[dict[str, Any]]:
    lines = rng.choices((1, 2, 3), (0.6, 0.25, 0.15))[0]
    chosen = sorted(rng.sample(sorted(PRICES), lines))
    items = [{"sku": sku, "quantity": rng.choice((1, 1, 1, 2)), "unit_price": PRICES[sku]} for sku in chosen]
    if kind == SOLD_OUT:
        items.append({"sku": SOLD_OUT_SKU, "quantity": 1, "unit_price": 2500})
    if kind == INVALID:
        items[0]["quantity"] = 0
    return items


OK, FAILED, UNKNOWN = "ok", "failed", "unknown"
RANKS: Final[Mapping[str, int]] = {"PENDING": 0, "PAID": 1, "COMPLETED": 2, "FAILED": 2}
LOST, DOUBLED, REORDERED, ADRIFT, STUCK = "lost", "doubled", "reordered", "adrift", "stuck"
VERDICTS: Final = (LOST, DOUBLED, REORDERED, ADRIFT, STUCK)


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be. `verdict` is one of `VERDICTS`."""

    verdict: str
    subject: str
    what: str


@dataclass(slots=True)
class Placing:
    """What is known of one wanted order: how its requests ended, its id, and the last status that was seen."""

    number: int
    kind: str
    customer: str
    currency: str
    total: int
    method: str
    has_key: bool
    outcome: str = FAILED
    order_id: str = ""
    status: str = ""

    @classmethod
    def of(cls, wanted: OrderToPlace) -> Placing:
        body = wanted.body
        return cls(
            wanted.number,
            wanted.kind,
            wanted.customer,
            body["currency"],
            wanted.total,
            body["payment_method"],
            wanted.key is not None,
        )

    def sum_up(self, outcome: str) -> None:
        """One more request ended so: ok counts for ever, and what may have arrived is never taken back."""
        if self.outcome != OK and outcome != FAILED:
            self.outcome = outcome

    @property
    def ends(self) -> tuple[str, str]:
        """The status and the refund that it must have in the end."""
        if self.kind == DECLINED:
            return "FAILED", "none"
        return ("FAILED", "done") if self.kind == SOLD_OUT else ("COMPLETED", "none")

    def difference(self, view: Mapping[str, Any]) -> str:
        """What an answer shows otherwise than it was ordered; "" when nothing."""
        shown = (view["customer_id"], view["currency"], view["total"], view["payment_method"])
        asked = (self.customer, self.currency, self.total, self.method)
        return "" if shown == asked else f"{asked} was ordered, {shown} is shown"


class History:
    """Written to `path` as it happens, a JSON object a line, with seconds since the beginning (monotonic)."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1 << 16)
        self._now = now
        self.placings: dict[int, Placing] = {}
        self.troubles: list[Violation] = []
        self.counts: Counter[str] = Counter()

    def invoke(self, operation: str, number: int, **more: object) -> None:
        self.counts[f"{operation} invoked"] += 1
        self._write("invoke", operation, number, more)

    def end(self, outcome: str, operation: str, number: int, **more: object) -> None:
        """How a request ended: ok, failed (it had no effect) or unknown."""
        self.counts[f"{operation} {outcome}"] += 1
        self._write(outcome, operation, number, more)

    def placed(self, placing: Placing, view: Mapping[str, Any]) -> None:
        """A placement was answered with 2xx; every such answer to one key must name the same order."""
        order_id = str(view["id"])
        if placing.order_id and placing.order_id != order_id:
            what = f"one key was answered with {placing.order_id} and {order_id}"
            self.find(DOUBLED, f"order {placing.number}", what)
        placing.order_id = placing.order_id or order_id
        placing.sum_up(OK)
        self._compare(placing, view)

    def seen(self, placing: Placing, view: Mapping[str, Any]) -> None:
        """An answer shows the order as it stands: it must never go back."""
        status, before = str(view["status"]), placing.status
        self._compare(placing, view)
        if before and (RANKS[status] < RANKS[before] or (RANKS[before] == RANKS["FAILED"] and status != before)):
            self.find(ADRIFT, placing.order_id, f"it was {before}, and then {status}")
        placing.status = status

    def _compare(self, placing: Placing, view: Mapping[str, Any]) -> None:
        if difference := placing.difference(view):
            self.find(ADRIFT, placing.order_id, difference)

    def missing(self, placing: Placing) -> None:
        self.find(LOST, placing.order_id, f"it was accepted as order {placing.number}, and then answered 404")

    def find(self, verdict: str, subject: str, what: str) -> None:
        self.troubles.append(Violation(verdict, subject, what))

    def close(self) -> None:
        self._file.close()

    def _write(self, event: str, operation: str, number: int, more: Mapping[str, object]) -> None:
        line = {"t": round(self._now(), 4), "event": event, "op": operation, "order": number, **more}
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")


PLACE, READ = "place", "read"
TIMEOUT_S = 10.0
HELD_S = 10.0
ATTEMPTS_MAX = 8
GIVES_UP = 0.2
PAUSE_FIRST_S, PAUSE_MAX_S = 0.2, 4.0
UNDER_WAY_MAX = 3_000
FOLLOWED, READ_SHARE = 0.08, 0.15
READS_WITHIN_S = 20.0
FINAL = frozenset({"COMPLETED", "FAILED"})


class Client:
    """Sends until `stop`. `accepted` and `ended` hear of latencies, in seconds since the order was due."""

    def __init__(
        self,
        port: int,
        history: History,
        seed: int,
        *,
        accepted: Callable[[float], None],
        ended: Callable[[float], None],
    ) -> None:
        self._history = history
        self._seed = seed
        self._accepted = accepted
        self._ended = ended
        self._rng = random.Random(f"client {seed}")  # noqa: S311  (when to retry and to read)
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.not_sent = 0
        self._endpoint = Endpoint(f"http://127.0.0.1:{port}")
        self._http = Pool(self._endpoint)

    def pause(self) -> None:
        """No new orders for now; those under way go on."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    async def run(self, rate: float, seconds: float) -> None:
        """Orders at that rate for so long. Those that wait for an answer hold up none of the next."""
        loop = asyncio.get_running_loop()
        began, number, sent = loop.time(), 0, 0
        while loop.time() - began < seconds:
            if not self._flowing.is_set():
                paused = loop.time()
                await self._flowing.wait()
                began += loop.time() - paused
                seconds -= loop.time() - paused
            due = began + sent / rate
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            sent += 1
            if len(self._tasks) >= UNDER_WAY_MAX:
                self.not_sent += 1
                continue
            number += 1
            self._begin(self._order(wanted(self._seed, number), due))

    async def finish(self, timeout_s: float) -> None:
        """Let what is under way end, then end it."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        self._http.close()

    async def ask_again(self) -> None:
        """Every second order with a key that has no answer yet is asked for once more: the key must hold."""
        unknown = [each for each in self._history.placings.values() if each.outcome == UNKNOWN and each.has_key]
        for placing in unknown[::2]:
            await self._place(placing, wanted(self._seed, placing.number))

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._history.find(STUCK, "the client", f"{type(error).__name__}: {error}")

    async def _order(self, order: OrderToPlace, due: float) -> None:
        placing = self._history.placings[order.number] = Placing.of(order)
        loop = asyncio.get_running_loop()
        pause_s = PAUSE_FIRST_S
        for _ in range(ATTEMPTS_MAX):
            outcome = await self._place(placing, order)
            if outcome == OK:
                break
            if order.key is None or outcome == FAILED or self._rng.random() < GIVES_UP:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(PAUSE_MAX_S, pause_s * 2)
        else:
            return
        self._accepted(loop.time() - due)
        if order.repeated:
            await self._place(placing, order)
        if order.other_body:
            await self._place_another(order)
        rng = self._rng.random()
        if rng < FOLLOWED:
            await self._follow(placing, due)
        elif rng < FOLLOWED + READ_SHARE:
            for _ in range(2):
                await asyncio.sleep(self._rng.random() * READS_WITHIN_S)
                await self._read(placing)

    async def _place(self, placing: Placing, order: OrderToPlace) -> str:
        """One request; how it ended."""
        history = self._history
        history.invoke(PLACE, order.number, key=order.key)
        try:
            reply = await self._post(order.body, order.key)
            view = json.loads(reply.body) if reply.is_success else None
        except asyncio.CancelledError:
            self._end(placing, UNKNOWN, why="the run ended")
            raise
        except NothingAnswersError as error:
            return self._end(placing, FAILED, why=_why(error))
        except (LostError, ValueError) as error:
            return self._end(placing, UNKNOWN, why=_why(error))
        if view is not None:
            history.placed(placing, view)
            return self._end(placing, OK, status=reply.status, id=placing.order_id)
        refused = reply.status < 500 and reply.status not in (409, 429)
        return self._end(placing, FAILED if refused else UNKNOWN, status=reply.status)

    async def _place_another(self, order: OrderToPlace) -> None:
        """Under the key of an order that was accepted another one must be refused."""
        history = self._history
        body = {**order.body, "customer_id": f"{CUSTOMER}{order.number}-other"}
        history.invoke("place another", order.number, key=order.key)
        try:
            reply = await self._post(body, order.key)
        except (NothingAnswersError, LostError) as error:
            history.end(UNKNOWN, "place another", order.number, why=_why(error))
            return
        if reply.is_success:
            history.find(DOUBLED, f"order {order.number}", "another order was accepted under its key")
        outcome = OK if reply.is_success else FAILED if reply.status == 422 else UNKNOWN
        history.end(outcome, "place another", order.number, status=reply.status)

    async def _post(self, body: object, key: str | None) -> HttpReply:
        named = b"idempotency-key: %b\r\n" % json.dumps(key).encode() if key is not None else b""
        request = self._endpoint.send(b"POST", "/orders", json.dumps(body).encode(), named)
        return await self._http.ask(request, TIMEOUT_S)

    async def _follow(self, placing: Placing, due: float) -> None:
        """Wait for its end, however long that takes."""
        while placing.status not in FINAL:
            if not await self._read(placing, wait_s=HELD_S):
                await asyncio.sleep(PAUSE_MAX_S)
        self._ended(asyncio.get_running_loop().time() - due)

    async def _read(self, placing: Placing, wait_s: float = 0.0) -> bool:
        """Whether there was an answer."""
        number, history = placing.number, self._history
        history.invoke(READ, number)
        path = f"/orders/{placing.order_id}" + (f"?wait={wait_s:g}" if wait_s else "")
        try:
            reply = await self._http.ask(self._endpoint.get(path), TIMEOUT_S + wait_s)
            view = json.loads(reply.body) if reply.is_success else None
        except asyncio.CancelledError:
            history.end(UNKNOWN, READ, number, why="the run ended")
            raise
        except (NothingAnswersError, LostError, ValueError) as error:
            history.end(UNKNOWN, READ, number, why=_why(error))
            return False
        if reply.status == 404:
            history.missing(placing)
        if view is not None:
            history.seen(placing, view)
        history.end(OK if view is not None else FAILED, READ, number, status=reply.status)
        return view is not None

    def _end(self, placing: Placing, outcome: str, **more: object) -> str:
        placing.sum_up(outcome)
        self._history.end(outcome, PLACE, placing.number, **more)
        return outcome


def _why(error: Exception) -> str:
    """What was in the way of the connection, where that was it; else what the error says."""
    return type(error.__cause__).__name__ if isinstance(error, NothingAnswersError) else str(error)
