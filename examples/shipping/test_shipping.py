"""The shipping service on the bench: nothing to install, to start or to wait for."""

from uuid import uuid4

from orderflow_shipping import SERVICE, OrderShipped, Shipment

from orderflow.events import ReservedLine, StockReserved
from orderflow.testing import Bench


def test_an_order_is_shipped_once() -> None:
    bench = Bench(SERVICE)
    lines = (ReservedLine(sku="SKU-MILK-JUG", quantity=2),)
    reserved = StockReserved(order_id=uuid4(), customer_id="ada", lines=lines)

    shipped = bench.send(reserved)
    again = bench.redeliver()

    (shipment,) = bench.facts(Shipment)
    assert shipment.lines == lines
    assert shipped.events == (OrderShipped(order_id=reserved.order_id, parcel=shipment.parcel),)
    assert (again.outcome, again.events) == ("duplicate", ())
