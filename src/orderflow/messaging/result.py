"""What became of one message."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orderflow.messaging.decision import Decision
from orderflow.messaging.inbox import Failure
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.message import Event
from orderflow.messaging.signals import Outcome


class Result(msgspec.Struct, frozen=True):
    """What became of one message. `answer` and `refusal` are for a command's caller, `decision` if it was handled.

    `crowded`: it was deferred because there is no room to park it.
    """

    incoming: Incoming
    outcome: Outcome
    answer: object = None
    caused: Sequence[Event] = ()
    failure: Failure | None = None
    refusal: Exception | None = None
    attempts: int = 0
    decision: Decision | None = None
    crowded: bool = False
