"""The server's side of the twin: what survives the death of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING

from orderflow.messaging.clock import Clock
from orderflow.messaging.rows import Row
from orderflow.messaging.store import Changes, DataRefusedError, StoreUnavailableError
from orderflow.messaging.stores.memory.locks import Locks
from orderflow.messaging.stores.memory.state import State
from orderflow.messaging.stores.memory.writing import Check, Rules

if TYPE_CHECKING:
    from orderflow.messaging.stores.memory.outbox import MemoryOutboxReader

Gate = Callable[[str], Awaitable[None]]


async def give_way(step: str) -> None:
    """The gate of a database that nobody drives: other tasks get their turn at each step."""
    await asyncio.sleep(0)


class MemoryDatabase:
    """Committed state, locks and sessions, shared by the stores of all simulated processes.

    `clock` is the server's clock, `encoding` what its texts can hold. `gate` is awaited before each step of each
    store, with its name (`begin`, `open`, `opened`, `commit`, `committed`, `due_keys`, `claim_intents`,
    `claim_slots`, `unsent`, `mark_sent`, `read`): a simulator may switch tasks, crash or raise StoreUnavailableError
    there. Raised at `opened`, what was read is lost with its session; at `committed`, the commit was carried out and
    its answer was lost.
    `committed` is told of each commit as it happens, `refused` of what was refused.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        checks: Sequence[Check] = (),
        stepwise: Collection[type[Row]] = (),
        encoding: str = "utf-8",
        gate: Gate = give_way,
        committed: Callable[[Sequence[Changes]], None] = lambda _: None,
        refused: Callable[[DataRefusedError], None] = lambda _: None,
    ) -> None:
        self.clock = clock
        self.rules = Rules(tuple(checks), frozenset(stepwise), encoding)
        self.gate = gate
        self.committed = committed
        self.refused = refused
        self.state = State()
        self.locks = Locks()
        self.epoch = 0
        self.available = True
        self.readers: list[MemoryOutboxReader] = []
        self.held: set[int] = set()
        """Outbox rows that somebody else has locked."""
        self.slot_owners: dict[int, MemoryOutboxReader] = {}

    def go_down(self) -> None:
        """The server stops: every session ends, what was not committed is gone."""
        self.available = False
        self.epoch += 1
        self.locks.fail_waiters(StoreUnavailableError("the server went down"))
        self.slot_owners.clear()
        readers, self.readers = self.readers, []
        for reader in readers:
            reader.cut()

    def come_back(self) -> None:
        """The server answers again, with all that was committed."""
        self.available = True

    def require(self, epoch: int | None = None) -> None:
        """Raises StoreUnavailableError when the server is away, or was since the session of `epoch` began."""
        if not self.available or (epoch is not None and epoch != self.epoch):
            raise StoreUnavailableError("the server does not answer")
