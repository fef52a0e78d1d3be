"""One run: prepare the stock, place, follow to the end, and learn how each order ended."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

from orderflow.cli.load.following import Following
from orderflow.cli.load.placing import Placing
from orderflow.cli.load.plan import plan
from orderflow.cli.load.tally import Tally
from orderflow.load.connection import Endpoint, LostError, NothingAnswersError

LOOK_EVERY_S = 0.05
REFUNDS_EVERY_S = 0.25
SUM_UP_SHARE = 0.1
SUM_UP_MAX_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for. All is over after `timeout_s`, whatever answers or does not."""

    orders: int
    rate: float | None
    concurrency: int
    seed: int
    timeout_s: float


def perform(url: str, wish: Wish, told: Callable[[Tally], None]) -> Tally:
    """Run it to its end, or to the first Ctrl-C; `told` is called about twenty times a second."""
    tally = Tally(wish.orders)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_perform(Endpoint(url), wish, tally, told))
    return tally


async def _perform(endpoint: Endpoint, wish: Wish, tally: Tally, told: Callable[[Tally], None]) -> None:
    following = Following(endpoint, tally)
    placing = Placing(
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
    telling = asyncio.create_task(_tell(tally, told))
    try:
        with _on_interrupt(stop):
            async with asyncio.timeout(wish.timeout_s - sum_up_s):
                await placing.run(min(wish.concurrency, wish.orders))
                tally.placing_ended = time.monotonic()
                await _until_final(tally, following)
    except TimeoutError:
        tally.time_is_up = True
    finally:
        tally.ended = tally.ended or time.monotonic()
        tally.placing_ended = tally.placing_ended or tally.ended
        for task in (sweeping, telling):
            task.cancel()
        await asyncio.gather(sweeping, telling, return_exceptions=True)
        told(tally)
    left_s = tally.began + wish.timeout_s - time.monotonic()
    await _sum_up(tally, following, max(sum_up_s, min(SUM_UP_MAX_S, left_s)))


async def _until_final(tally: Tally, following: Following) -> None:
    """Return when every order is final and no refund is due, or when it is over."""
    while not (tally.interrupted or tally.lost_contact):
        pause_s = LOOK_EVERY_S
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


async def _tell(tally: Tally, told: Callable[[Tally], None]) -> None:
    while True:
        told(tally)
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
