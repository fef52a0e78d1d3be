"""The operators' log as a chain of hashes: what was changed, put in or taken out in it does not fit any more.

Each row's hash is the SHA-256 over the hash of the row before it and its own content. So a chain proves nothing about
its own end: who cuts off the last rows leaves a shorter chain that fits. Its head, kept somewhere else, shows that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from orderflow.core.operations.model import OperatorAction

BEFORE_THE_FIRST = bytes(32)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def hash_of(previous: bytes, action: OperatorAction) -> bytes:
    """The hash of a row behind the one with the hash `previous`: each field goes in as a netstring, in UTF-8.

    The same as the function `operator_action_hash` of the database.
    """
    at_us = (action.at - _EPOCH) // timedelta(microseconds=1)
    said = (str(action.number), str(at_us), action.who, action.action, action.target, action.reason, action.result)
    fields = [each.encode() for each in said]
    return hashlib.sha256(previous + b"".join(b"%d:%s," % (len(each), each) for each in fields)).digest()


@dataclass(frozen=True, slots=True, order=True)
class Misfit:
    """The row `number` does not follow the row `behind` (0: it should be the first). `why` is a sentence."""

    number: int
    behind: int
    why: str


@dataclass(slots=True)
class ChainCheck:
    """Reads a log from its latest row to its first. `head` is the number and the hash of the latest row.

    `first` is the first row that does not fit, once all were read.
    """

    rows: int = 0
    head: tuple[int, str] = (0, BEFORE_THE_FIRST.hex())
    first: Misfit | None = None
    hashes: dict[int, str] = field(default_factory=dict)
    _later: OperatorAction | None = None

    def read(self, latest_first: Iterable[OperatorAction]) -> None:
        """The next rows."""
        for action in latest_first:
            if self._later is None:
                self.head = (action.number, action.hash)
            else:
                self._compare(self._later, action)
            self.rows += 1
            self.hashes[action.number] = action.hash
            self._later = action

    def end(self) -> None:
        """There are no rows before those that were read."""
        if self._later is not None and self._later.hash != hash_of(BEFORE_THE_FIRST, self._later).hex():
            why = f"row {self._later.number} was changed, or rows before it were taken out"
            self.first = Misfit(self._later.number, 0, why)

    def _compare(self, later: OperatorAction, earlier: OperatorAction) -> None:
        try:
            previous = bytes.fromhex(earlier.hash)
        except ValueError:
            previous = b""
        if later.hash != hash_of(previous, later).hex():
            self.first = Misfit(later.number, earlier.number, _why(later.number, earlier.number))


def _why(number: int, behind: int) -> str:
    left_out = number - behind - 1
    if left_out == 1:
        return f"row {number - 1} is missing, or row {number} was changed"
    if left_out > 1:
        return f"rows {behind + 1} to {number - 1} are missing, or row {number} was changed"
    return f"row {number} was changed, or row {behind} was exchanged for another"
