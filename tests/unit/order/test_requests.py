"""What is refused of an order, and by which field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from orderflow.http.problems import ProblemError
from orderflow.http.validation import StrictDecoder
from orderflow.services.order.api import NewOrder, require_sound

GOOD: dict[str, Any] = {
    "customer_id": "customer-42",
    "currency": "EUR",
    "items": [{"sku": "SKU-A", "quantity": 2, "unit_price": 1250}],
    "payment_method": "pm_card_visa",
}


def item(**changes: object) -> dict[str, Any]:
    return {"items": [{**GOOD["items"][0], **changes}]}


def check(body: bytes) -> NewOrder:
    order = StrictDecoder(NewOrder).decode(body)
    require_sound(order)
    return order


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"customer_id": "ü" * 100},
        {"payment_method": "x"},
        {"currency": "JPY"},
        item(quantity=10_000, unit_price=1_000_000_000),
        {"items": [{"sku": f"S{n}", "quantity": 1, "unit_price": n} for n in range(100)]},
        {"items": [{"sku": "A", "quantity": 1, "unit_price": 0}, {"sku": "B", "quantity": 1, "unit_price": 1}]},
    ],
)
def test_what_is_within_the_bounds_is_taken(changes: dict[str, Any]) -> None:
    order = check(msgspec.json.encode({**GOOD, **changes}))
    assert sum(each.quantity * each.unit_price for each in order.items) < 2**53


@pytest.mark.parametrize(
    ("pointer", "changes"),
    [
        ("/customer_id", {"customer_id": ""}),
        ("/customer_id", {"customer_id": "x" * 101}),
        ("/customer_id", {"customer_id": "a\nb"}),
        ("/customer_id", {"customer_id": "a\n"}),
        ("/customer_id", {"customer_id": "a\x85"}),
        ("/customer_id", {"customer_id": "a\u202eb"}),
        ("/customer_id", {"customer_id": "a\u2066b\u2069"}),
        ("/customer_id", {"customer_id": "a\u2028b"}),
        ("/customer_id", {"customer_id": "a\ufffe"}),
        ("/payment_method", {"payment_method": "pm_\u200f"}),
        ("/customer_id", {"customer_id": 7}),
        ("/customer_id", {"customer_id": None}),
        ("/currency", {"currency": "eur"}),
        ("/currency", {"currency": "EURO"}),
        ("/currency", {"currency": "XXX"}),
        ("/currency", {"currency": ["EUR", "USD"]}),
        ("/items", {"items": []}),
        ("/items", {"items": [{"sku": f"S{n}", "quantity": 1, "unit_price": 1} for n in range(101)]}),
        ("/items", {"items": {}}),
        ("/items", item(unit_price=0)),
        ("/items/0/sku", item(sku="")),
        ("/items/0/sku", item(sku="-a")),
        ("/items/0/sku", item(sku="a b")),
        ("/items/0/sku", item(sku="a\n")),
        ("/items/0/sku", item(sku="x" * 65)),
        ("/items/0/quantity", item(quantity=0)),
        ("/items/0/quantity", item(quantity=-1)),
        ("/items/0/quantity", item(quantity=10_001)),
        ("/items/0/quantity", item(quantity=1.5)),
        ("/items/0/quantity", item(quantity="2")),
        ("/items/0/quantity", item(quantity=True)),
        ("/items/0/unit_price", item(unit_price=-1)),
        ("/items/0/unit_price", item(unit_price=1_000_000_001)),
        ("/items/0/unit_price", item(unit_price=12.5)),
        ("/items/0/currency", item(currency="USD")),
        ("/items/1/sku", {"items": GOOD["items"] * 2}),
        ("/payment_method", {"payment_method": ""}),
        ("/payment_method", {"payment_method": "x" * 65}),
        ("/total", {"total": 1}),
        ("/status", {"status": "PAID"}),
    ],
)
def test_what_is_not_is_refused_with_the_field_named(pointer: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ProblemError) as refused:
        check(msgspec.json.encode({**GOOD, **changes}))
    assert refused.value.problem.status == 422
    assert [each.pointer for each in refused.value.problem.errors] == [pointer]


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_every_field_is_required(missing: str) -> None:
    body = {name: value for name, value in GOOD.items() if name != missing}
    with pytest.raises(ProblemError) as refused:
        check(msgspec.json.encode(body))
    assert [each.pointer for each in refused.value.problem.errors] == [f"/{missing}"]


@pytest.mark.parametrize(
    ("status", "old", "new"),
    [
        (422, b'"customer-42"', b'"a\\u0000"'),
        (422, b'"customer-42"', b'"a\\ud800"'),
        (422, b'{"customer_id"', b'{"customer_id":"x","customer_id"'),
        (400, b'"customer-42"', b'"a\xff"'),
        (422, b'"customer-42"', b'"a\xed\xa0\x80"'),
        (400, b"}", b""),
        (400, b'"customer-42"', b"NaN"),
    ],
)
def test_text_that_cannot_be_kept_and_bad_json_are_refused(status: int, old: bytes, new: bytes) -> None:
    body = msgspec.json.encode(GOOD)
    assert old in body
    with pytest.raises(ProblemError) as refused:
        check(body.replace(old, new, 1))
    assert refused.value.problem.status == status
