"""Money: whole minor units (cents, yen, fils) and an ISO 4217 code, never a float. And how a SKU is written."""

from __future__ import annotations

from typing import Annotated

import msgspec

SKU_MAX = 64
SKU_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$(?!\n)"

Sku = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=SKU_MAX,
        pattern=SKU_PATTERN,
        description="letters, digits, dots, underscores and dashes, the first a letter or a digit",
        examples=["SKU-ESPRESSO-CUP"],
    ),
]


AMOUNT_MAX = 2**53 - 1
"""The largest integer that every JSON reader takes without loss (RFC 8259, section 6)."""

MinorUnits = Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX)]
Total = Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX)]
"""What is charged or given back: never nothing."""

Currency = Annotated[str, msgspec.Meta(min_length=3, max_length=3)]
