"""Values that the examples of the documents share: one order, through all services."""

from __future__ import annotations

ORDER_ID = "01a217d2-6f78-7561-a100-7ae1a8650d78"
CUSTOMER = "customer-42"
SKU = "SKU-ESPRESSO-CUP"
PAID_BY = "f882441f-7005-5d7f-b93c-cbb503d4142f"
RESERVED_BY = "4d76315a-9009-5454-8dfe-68731a182459"
PLACED_AT = "2026-11-26T12:26:36.796960Z"
PAID_AT = "2026-11-26T12:26:36.883935Z"
RESERVED_AT = "2026-11-26T12:26:36.917824Z"
