"""How a stock keeping unit is written."""

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
