"""Which functions of ours a piece of work enters, in order: what a reader of the code has to follow.

Traces what runs in this process: the thread that asks, and those that start meanwhile. Where the work begins and ends
is told by crash points, which stand at every step that matters, however the code around them is built.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

from orderflow.core import crash_points
from orderflow.core.crash_points import Point

PACKAGE = Path(crash_points.__file__).parents[1]
_PREFIX = f"{PACKAGE}/"
_POINT, _MARK = crash_points.reached.__code__, crash_points.reached_when_sent.__code__


class Entry(NamedTuple):
    """A function, as `Class.method`, in a file below the package."""

    file: str
    function: str


class Trace:
    """Every function once, in order of its first entry between two points. Without `first`, from the start on."""

    def __init__(self, last: Point, first: Point | None = None) -> None:
        self._first, self._last = first, last
        self._seen: dict[CodeType, None] = {}
        self._on = first is None
        self.done = False

    @property
    def entries(self) -> Sequence[Entry]:
        return [Entry(code.co_filename.removeprefix(_PREFIX), _name(code)) for code in self._seen]

    @property
    def files(self) -> frozenset[str]:
        return frozenset(each.file for each in self.entries)

    def profile(self, frame: FrameType, event: str, _arg: Any) -> None:
        code = frame.f_code
        if event != "call" or self.done or not code.co_filename.startswith(_PREFIX):
            return
        if code is _POINT:
            self._reach(frame)
        elif self._on and code is not _MARK:
            self._seen.setdefault(code)

    def _reach(self, frame: FrameType) -> None:
        point = frame.f_locals["point"]
        if self._on and point is self._last:
            self.done = True
        elif not self._on and point is self._first:
            self._on = True
            self._take_stack(frame.f_back)

    def _take_stack(self, frame: FrameType | None) -> None:
        """Who is under way when it begins has been entered too, outermost first."""
        stack: list[CodeType] = []
        while frame is not None:
            if frame.f_code.co_filename.startswith(_PREFIX):
                stack.append(frame.f_code)
            frame = frame.f_back
        self._seen.update(dict.fromkeys(reversed(stack)))


@contextmanager
def tracing(last: Point, first: Point | None = None) -> Iterator[Trace]:
    """The block has to see to it that `last` is reached, and to wait until the trace is `done`."""
    trace = Trace(last, first)
    threading.setprofile(trace.profile)
    sys.setprofile(trace.profile)
    try:
        yield trace
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _name(code: CodeType) -> str:
    return code.co_qualname.replace(".<locals>", "")
