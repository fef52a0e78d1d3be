"""The document of the events: true to the code, whole, and its schemas take what is really sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest

from orderflow import Catalogue, Decision, Event, Rows, Service, Subscription, handlers, handles
from orderflow.cli.schema import current
from orderflow.core.messages import Upcaster
from orderflow.events.base import TOPICS
from orderflow.events.order import OrderPlaced
from orderflow.schema.asyncapi import Json, asyncapi_of, json_schemas_of
from orderflow.services.order.service import SERVICE as ORDER
from orderflow.services.payment.service import SERVICE as PAYMENT

PAGE = Path(__file__).parents[3] / "docs" / "asyncapi.json"
GOLDEN = Path(__file__).parents[1] / "events" / "golden"
ORDER_EVENTS = "order-events"


class ParcelSent(Event, frozen=True, kw_only=True):
    """It is on its way; no service of these reads it."""

    TYPE: ClassVar[str] = "shipping.ParcelSent"
    TOPIC: ClassVar[str] = "parcels"

    order_id: str


@handles(OrderPlaced)
def placed(rows: Rows, event: OrderPlaced) -> Decision:
    return Decision(events=(ParcelSent(order_id=str(event.order_id)),))


def shipping(catalogue: Catalogue) -> Service:
    return Service(
        name="shipping",
        catalogue=catalogue,
        subscriptions=(Subscription("shipping", (ORDER_EVENTS,)),),
        publishes=("parcels",),
        handlers=handlers(placed),
    )


@pytest.fixture(scope="module")
def document() -> Json:
    return current()


@pytest.fixture(scope="module")
def schemas(document: Json) -> Mapping[str, Any]:
    return json_schemas_of(document)


def messages_of(document: Json, operation: str) -> list[str]:
    return [each["$ref"].rpartition("/")[2] for each in document["operations"][operation]["messages"]]


def test_the_page_is_what_the_code_says(document: Json) -> None:
    ours = {name: document["channels"][name] for name in json.loads(PAGE.read_bytes())["channels"]}

    assert json.loads(PAGE.read_bytes()) == document, "write it anew: orderflow schema export --into docs"
    assert {topic for topic in TOPICS if topic not in ours} == set()


def test_every_event_that_was_ever_pinned_fits_its_schema(schemas: Mapping[str, Any]) -> None:
    pinned = sorted(GOLDEN.iterdir())

    assert pinned
    for file in pinned:
        jsonschema.validate(json.loads(file.read_bytes()), schemas[file.stem])


def test_a_value_that_its_reader_refuses_does_not_fit_its_schema(schemas: Mapping[str, Any]) -> None:
    value = json.loads((GOLDEN / "orderflow.OrderPlaced.v1.json").read_bytes())

    for broken in ({**value, "total": "2500"}, {**value, "items": []}, {**value, "currency": "EURO"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schemas["orderflow.OrderPlaced.v1"])


def test_each_schema_stands_alone_and_is_one(schemas: Mapping[str, Any]) -> None:
    for each in schemas.values():
        jsonschema.Draft202012Validator.check_schema(each)
        assert "#/components" not in json.dumps(each)


def test_who_sends_and_who_reads_is_said(document: Json) -> None:
    assert messages_of(document, "order.send.order-events")[0] == "orderflow.OrderPlaced.v1"
    assert "orderflow.PaymentSucceeded.v1" in messages_of(document, "inventory.receive.payment-status")
    assert document["operations"]["order.flow.receive.flow-status"]["bindings"]["kafka"]["groupId"]["const"] == (
        "order.flow"
    )
    assert messages_of(document, "payment.send.order-events.DLT") == ["DeadLetter"]


def test_an_event_that_nobody_reads_is_in_the_document_too() -> None:
    document = asyncapi_of([ORDER, shipping(Catalogue((OrderPlaced,)))], "1")

    assert messages_of(document, "shipping.send.parcels") == ["shipping.ParcelSent.v1"]
    assert messages_of(document, "shipping.receive.order-events") == ["orderflow.OrderPlaced.v1"]


def test_an_older_version_is_read_and_no_longer_sent() -> None:
    class Second(OrderPlaced, frozen=True, kw_only=True):
        """The same, a version later."""

        VERSION: ClassVar[int] = 2

    catalogue = Catalogue((Second,), [Upcaster("orderflow.OrderPlaced", 1, dict)])
    document = asyncapi_of([shipping(catalogue), PAYMENT, ORDER], "1")

    assert messages_of(document, "shipping.receive.order-events") == [
        "orderflow.OrderPlaced.v2",
        "orderflow.OrderPlaced.v1",
    ]
    assert "orderflow.OrderPlaced.v1" not in messages_of(document, "order.send.order-events")
