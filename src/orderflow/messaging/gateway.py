"""The port to the outside world that a service asks: a bank, a mail server."""

from __future__ import annotations

from typing import Protocol

from orderflow.messaging.decision import Intent
from orderflow.messaging.message import Answer


class GatewayUnavailableError(Exception):
    """The outside world cannot be reached at all: infrastructure; the intent is asked again."""


class Gateway(Protocol):
    """Asks the outside world. One call an intent; many run side by side."""

    async def ask(self, intent: Intent) -> Answer:
        """Carry out the intent under its key as idempotency key; return what was answered.

        A time-out is an answer too: *unknown*. Raises GatewayUnavailableError when nothing was asked.
        """
        ...
