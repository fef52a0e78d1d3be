"""Times and durations for people."""

from __future__ import annotations

import time
from datetime import UTC, datetime

NOW_MS = 1000


def moment(value: object) -> str:
    """An RFC 3339 time as local time with milliseconds; other text as it is, nothing as -."""
    if value is None:
        return "-"
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S.") + f"{at.microsecond // 1000:03d}"


def moment_of_ms(milliseconds: int) -> str:
    """The same of ms since the epoch."""
    try:
        return moment(datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat())
    except (OverflowError, OSError, ValueError):
        return str(milliseconds)


def clock_of_ms(milliseconds: int) -> str:
    """The local time of day alone."""
    return moment_of_ms(milliseconds).rpartition(" ")[2]


def now_ms() -> float:
    """Since the epoch, by this machine's clock."""
    return time.time() * 1000


def ago(value: object) -> str:
    """How long ago an RFC 3339 time is (`3 min ago`), or when it will be (`in 5.0 s`); other text as it is."""
    try:
        at = datetime.fromisoformat(str(value)).timestamp() * 1000
    except (ValueError, OverflowError, OSError):
        return str(value)
    passed = now_ms() - at
    if abs(passed) < NOW_MS:
        return "now"
    return f"{duration(passed)} ago" if passed > 0 else f"in {duration(-passed)}"


def duration(milliseconds: float) -> str:
    """`12 ms`, `3.4 s`, `5 min`, `2.1 h`, `3.0 d`."""
    seconds = milliseconds / 1000
    for limit, unit_s, form in ((60, 1.0, "{:.1f} s"), (3600, 60.0, "{:.0f} min"), (86_400, 3600.0, "{:.1f} h")):
        if seconds < 1:
            return f"{milliseconds:.0f} ms"
        if seconds < limit:
            return form.format(seconds / unit_s)
    return f"{seconds / 86_400:.1f} d"
