"""The header Idempotency-Key."""

from __future__ import annotations

import pytest

from orderflow.events.order import Item
from orderflow.http.problems import ProblemError
from orderflow.services.order.api import InFlight, NewItem, NewOrder, fingerprint, parse_key


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('  "a b"\t', "a b"),
        (r'"a\"b\\c"', r'a"b\c'),
        ('"' + "x" * 255 + '"', "x" * 255),
        ("a:b/c=d", "a:b/c=d"),
    ],
)
def test_a_key_is_a_structured_string_or_the_same_without_quotes(header: str, key: str) -> None:
    assert parse_key(header) == key


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        '""',
        '"a',
        'a"',
        '"a"b',
        '"a";p=1',
        '"a", "b"',
        "a b",
        r'"a\x"',
        '"é"',
        "é",
        '"' + "x" * 256 + '"',
        "x" * 256,
        '"a\x00"',
        '"a\n"',
        "a\n",
    ],
)
def test_anything_else_is_refused_by_name(header: str) -> None:
    with pytest.raises(ProblemError) as refused:
        parse_key(header)
    assert refused.value.problem.status == 400
    assert refused.value.problem.errors[0].parameter == "Idempotency-Key"


def an_order(**changes: object) -> NewOrder:
    given: dict[str, object] = {
        "customer_id": "c",
        "currency": "EUR",
        "items": (NewItem(sku="A", quantity=1, unit_price=1),),
        "payment_method": "pm_card_visa",
    }
    return NewOrder(**{**given, **changes})  # type: ignore[arg-type]


def test_a_fingerprint_is_of_the_content() -> None:
    assert fingerprint(an_order()) == fingerprint(an_order())
    others = [
        an_order(customer_id="d"),
        an_order(currency="USD"),
        an_order(payment_method="pm_card_amex"),
        an_order(items=(Item(sku="A", quantity=2, unit_price=1),)),
        an_order(items=(Item(sku="A", quantity=1, unit_price=1), Item(sku="B", quantity=1, unit_price=1))),
    ]
    assert len({fingerprint(each) for each in [an_order(), *others]}) == 6


def test_a_key_is_held_by_one_request_at_a_time() -> None:
    in_flight = InFlight()
    with in_flight.hold("k"):
        with pytest.raises(ProblemError) as refused, in_flight.hold("k"):
            pass
        assert refused.value.problem.status == 409
        with in_flight.hold("other"):
            pass
    with in_flight.hold("k"):
        pass


def test_a_key_is_let_go_when_its_request_fails() -> None:
    in_flight = InFlight()
    with pytest.raises(ValueError, match="gone"), in_flight.hold("k"):
        raise ValueError("gone")
    with in_flight.hold("k"):
        pass
