"""What a shop can order on a first start."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SOLD_OUT_SKU = "SKU-SOLD-OUT"
PRICES: Mapping[str, int] = MappingProxyType(
    {
        "SKU-ESPRESSO-CUP": 590,
        "SKU-COFFEE-BEANS-1KG": 1890,
        "SKU-PAPER-FILTER-100": 490,
        "SKU-MILK-JUG": 1450,
        "SKU-TEA-TOWEL": 950,
        "SKU-HAND-GRINDER": 7900,
        "SKU-POUR-OVER-KETTLE": 5400,
        "SKU-LINEN-APRON": 3200,
        "SKU-BREAD-KNIFE": 4150,
        "SKU-CAST-IRON-PAN": 6900,
        "SKU-DESK-LAMP": 8900,
        "SKU-WALL-CLOCK": 4700,
    }
)
"""SKU of the demo catalogue → unit price in minor units, the most popular first."""
