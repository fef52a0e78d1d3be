"""Whether another order is let in: bounded by how many are unfinished."""

from __future__ import annotations

import asyncio

from orderflow.messaging.clock import Clock
from orderflow.messaging.signals import Signals, TaskFailed
from orderflow.messaging.store import StoreUnavailableError
from orderflow.order.store import Orders
from orderflow.runtime.problem_types import OVERLOADED
from orderflow.runtime.problems import ProblemError

RECOUNT_S = 1.0
RETRY_AFTER_S = 2


class Admission:
    """Refuses orders while `at_most` are unfinished, in all processes together; near the bound it is a guess.

    The orders are counted once a second while orders come, beside the requests and never by one; those let
    in here since that count began are added.
    """

    def __init__(self, orders: Orders, clock: Clock, signals: Signals, at_most: int) -> None:
        self._orders = orders
        self._signals = signals
        self._clock = clock
        self._at_most = at_most
        self._counted = 0
        self._let_in = 0
        self._counted_at = -RECOUNT_S
        self._counting: asyncio.Task[None] | None = None

    def admit(self) -> None:
        """Let one in. Raises ProblemError 503 with Retry-After."""
        if self._counting is None and self._clock.monotonic() - self._counted_at >= RECOUNT_S:
            self._counted += self._let_in
            self._let_in = 0
            self._counting = asyncio.get_running_loop().create_task(self._count())
        if self._counted + self._let_in >= self._at_most:
            detail = f"{self._at_most} orders or more are unfinished"
            raise ProblemError(503, detail, kind=OVERLOADED, retry_after_s=RETRY_AFTER_S)
        self._let_in += 1

    async def _count(self) -> None:
        try:
            self._counted = await self._orders.count_unfinished(self._at_most)
        except StoreUnavailableError:
            """Whoever wants to place an order is told by placing it."""
        except Exception as error:  # noqa: BLE001  # a defect here must be told, and must not go on unseen
            self._signals.emit(TaskFailed("order", "admission", error))
        finally:
            self._counted_at = self._clock.monotonic()
            self._counting = None
