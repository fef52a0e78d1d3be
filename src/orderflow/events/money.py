"""Money: whole minor units (cents, yen, fils) and an ISO 4217 currency code. Never a float."""

from __future__ import annotations

from typing import Annotated

import msgspec

AMOUNT_MAX = 2**53 - 1
"""The largest integer that every JSON reader takes without loss (RFC 8259, section 6)."""

MinorUnits = Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX)]
Total = Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX)]
"""What is charged or given back: never nothing."""

Currency = Annotated[str, msgspec.Meta(min_length=3, max_length=3)]
