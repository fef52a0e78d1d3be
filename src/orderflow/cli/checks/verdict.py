"""What a check found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

OK = "ok"
SKIPPED = "skipped"
WARNING = "warning"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`verdict` is ok, skipped (it does not apply, or cannot be told now), warning or failed."""

    check: str
    verdict: str
    found: str
    advice: str = ""
