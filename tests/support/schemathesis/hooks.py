"""What no schema can say, so that a generated request that is taken for valid is valid.

A SKU stands in one line of an order only, and an Idempotency-Key is the caller's own: it comes with one order.
"""

from __future__ import annotations

from typing import Any

import schemathesis

KEY = "Idempotency-Key"
_used: dict[str, object] = {}


@schemathesis.hook
def before_call(context: object, case: Any, kwargs: dict[str, Any]) -> None:
    """Only what would be valid otherwise is changed."""
    if case.method != "POST" or case.path != "/orders" or not isinstance(case.body, dict):
        return
    items = case.body.get("items")
    if isinstance(items, list) and all(isinstance(item, dict) for item in items):
        lines = {str(item.get("sku")): item for item in reversed(items)}
        case.body = {**case.body, "items": [item for item in items if lines[str(item.get("sku"))] is item]}
    key = (case.headers or {}).get(KEY)
    if isinstance(key, str) and _used.setdefault(key, case.body) != case.body:
        case.headers[KEY] = f'"key-{len(_used)}"'
        _used[case.headers[KEY]] = case.body
