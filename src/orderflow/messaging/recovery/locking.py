"""How operators' acts take their turn among live traffic."""

from __future__ import annotations

LOCK_WAIT_S = 2.0
SEQUENCE_MAX = 10_000
