"""What came as JSON as one of our types, from any thread."""

from __future__ import annotations

import threading
from typing import TypeVar

import msgspec

T = TypeVar("T")
_TURN = threading.Lock()


def converted(value: object, kind: type[T]) -> T:
    """As `msgspec.convert`, but one thread at a time.

    msgspec learns a type at its first use. A second thread that comes meanwhile finds it half learnt, and the process
    ends with a segmentation fault (msgspec 0.22.0). Raises msgspec.ValidationError.
    """
    with _TURN:
        return msgspec.convert(value, kind)
