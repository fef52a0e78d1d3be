"""Python loads this at its start, where it is on the path: the wall clock is as far off as a file says.

Read again each second; `time.monotonic` and the clocks of C libraries are left alone.
"""

import os
import time

_path = os.environ.get("CHAOS_CLOCK", "")
_true_ns, _monotonic = time.time_ns, time.monotonic
_offset_ns, _read_at = 0, -1.0


def _shifted_ns() -> int:
    global _offset_ns, _read_at  # noqa: PLW0603
    if _monotonic() - _read_at > 1.0:
        _read_at = _monotonic()
        try:
            with open(_path, encoding="ascii") as file:
                _offset_ns = int(file.read()) * 1_000_000_000
        except (OSError, ValueError):
            pass
    return _true_ns() + _offset_ns


if _path:
    time.time_ns = _shifted_ns
    time.time = lambda: _shifted_ns() / 1_000_000_000
