"""Whether a client is a working member of its group, or has to be replaced by a new one. No I/O, no clock.

librdkafka says itself where its membership stands. There are places that it never leaves: an OffsetCommit whose
answer does not come keeps it at `wait-incr-unassign-to-complete`, without heartbeats, while every broker answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import msgspec

UNJOINED_PATIENCE_S = 8.0
PATIENCE_FACTOR_MAX = 8
STEP_MAX_S = 5.0


class Verdict(Enum):
    """WELL; WAITING: not a member at this moment, as in every rebalance; STUCK: longer than that; LOST: for good."""

    WELL = "well"
    WAITING = "waiting"
    STUCK = "stuck"
    LOST = "lost"


class _Group(msgspec.Struct, frozen=True):
    state: str = ""
    join_state: str = ""


class _Statistics(msgspec.Struct, frozen=True):
    cgrp: _Group = _Group()


_STATISTICS = msgspec.json.Decoder(_Statistics)


@dataclass(frozen=True, slots=True)
class GroupState:
    """What librdkafka's statistics say (STATISTICS.md, `cgrp`)."""

    state: str
    join_state: str

    @classmethod
    def of(cls, statistics: str) -> GroupState:
        group = _STATISTICS.decode(statistics).cgrp
        return cls(group.state, group.join_state)

    @property
    def joined(self) -> bool:
        """It has a coordinator and an assignment, which may be empty: there can be more members than partitions."""
        return self.state == "up" and self.join_state == "steady"

    def __str__(self) -> str:
        return f"coordinator {self.state or 'unknown'}, {self.join_state or 'not joined'}"


class Membership:
    """Judges one client after the other.

    `lost_after_s` is longer than a rebalance takes, which waits a session timeout for members that died. It doubles
    with every client that is lost: the cause may be one that no new client heals.
    """

    def __init__(self, lost_after_s: float) -> None:
        self._lost_after_s = lost_after_s
        self._factor = 1
        self._unjoined_s = 0.0
        self._looked_at: float | None = None

    def judge(self, now: float, *, joined: bool, answered: bool, holds: bool) -> Verdict:
        """`answered`: the brokers answer others. While they do not, nothing is the client's fault."""
        before, self._looked_at = self._looked_at, now
        if joined:
            self._factor = 1
        if joined or not answered:
            self._unjoined_s = 0.0
            return Verdict.WELL if joined else Verdict.WAITING
        if before is not None:
            # A process that was stopped looks long after: its client has not had that time.
            self._unjoined_s += min(now - before, STEP_MAX_S)
        if self._unjoined_s >= self._lost_after_s * self._factor:
            self._factor = min(2 * self._factor, PATIENCE_FACTOR_MAX)
            self._unjoined_s = 0.0
            return Verdict.LOST
        return Verdict.STUCK if self._unjoined_s >= UNJOINED_PATIENCE_S and not holds else Verdict.WAITING
