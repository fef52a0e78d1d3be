"""Which messages of a batch the database can have meant when it refused the batch.

What is found here is only tried first: whoever is suspected is proven by a batch that goes in without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence

from orderflow.messaging.incoming import Incoming
from orderflow.messaging.store import DataRefusedError

NUL = re.compile(rb"\\u0000")
BEYOND_64_BITS = re.compile(rb"[:\[,]\s*-?[0-9]{19}")
UNSTORABLE = {"22021": NUL, "22P05": NUL, "22000": BEYOND_64_BITS, "22003": BEYOND_64_BITS}
"""By SQLSTATE that names no row: how a value that no column holds stands in the JSON of a message."""

Ids = Callable[[Incoming], Iterable[Hashable]]


def accused(batch: Sequence[Incoming], error: DataRefusedError, ids: Ids) -> list[Incoming]:
    """Those that may fail without having been tried alone; empty if that would be a guess.

    It is the only message; or the only suspect; or all that hold a NUL when one was refused. A command has one try
    and a caller who waits, so it is never accused beside others.
    """
    if len(batch) == 1:
        return list(batch)
    found = suspects(batch, error, ids)
    if any(each.record is None for each in found):
        return []
    return found if len(found) == 1 or UNSTORABLE.get(error.sqlstate) is NUL else []


def suspects(batch: Sequence[Incoming], error: DataRefusedError, ids: Ids) -> list[Incoming]:
    """Those that the error can mean, if it says anything: by what they hold; else by the event that it names, else by
    the key, else by a row that they touch (`ids`).
    """
    pattern, names = UNSTORABLE.get(error.sqlstate), error.named
    if pattern is not None:
        return [each for each in batch if each.record is not None and pattern.search(each.record.value or b"")]
    if not names:
        return []
    return (
        [each for each in batch if str(each.event_id) in names]
        or [each for each in batch if each.key in names]
        or [each for each in batch if not names.isdisjoint(map(str, ids(each)))]
    )


def parts(batch: Sequence[Incoming], suspected: Iterable[Incoming]) -> list[list[int]]:
    """The places of the batch in two or three parts, each key in one of them: those of the suspects apart, the others
    halved. When none or all are suspected, halved by key while there are several, else in order.
    """
    keys = list(dict.fromkeys(incoming.key for incoming in batch))
    if len(keys) == 1:
        middle = len(batch) // 2
        return [list(range(middle)), list(range(middle, len(batch)))]
    apart = {incoming.key for incoming in suspected}
    others = [key for key in keys if key not in apart]
    if not others:
        apart, others = set(), keys
    first = set(others[: len(others) // 2])
    second = set(others[len(others) // 2 :])
    divided = [[n for n, incoming in enumerate(batch) if incoming.key in part] for part in (first, second, apart)]
    return [part for part in divided if part]
