"""The five promises over all books: orders one by one, then the stock and what is under way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from orderflow.audit.books import Books, OrderBooks, ServiceBooks, StockBooks
from orderflow.audit.findings import Finding, Kind, Report
from orderflow.audit.orders import check_order


def check(books: Books, *, at_rest: bool, accepted: Iterable[str] = ()) -> Report:
    """Check everything. `accepted` are the orders that were answered with 2xx: each must be there."""
    auditor = Auditor(at_rest=at_rest, accepted=accepted)
    for order in books.orders:
        auditor.take_order(order)
    for stock in books.stock:
        auditor.take_stock(stock)
    for service in books.services:
        auditor.take_service(service)
    return auditor.finish()


class Auditor:
    """Takes the books piece by piece, in any order, so that they need not fit into memory."""

    def __init__(self, *, at_rest: bool, accepted: Iterable[str] = ()) -> None:
        self._report = Report(at_rest)
        self._missing = dict.fromkeys(accepted)

    def take_order(self, books: OrderBooks) -> None:
        report = self._report
        if books.order is not None:
            report.orders += 1
            status = books.order.status
            report.statuses[status] = report.statuses.get(status, 0) + 1
            self._missing.pop(books.order_id, None)
        report.stuck += books.is_stuck
        report.refunded_by_word += books.is_refunded_by_word
        self._report.add(check_order(books, at_rest=report.at_rest))

    def take_stock(self, stock: StockBooks) -> None:
        self._report.add(check_stock(stock))

    def take_service(self, service: ServiceBooks) -> None:
        if self._report.at_rest:
            self._report.add(check_service(service))

    def finish(self) -> Report:
        """The report, with the accepted orders that nobody has."""
        for order_id in self._missing:
            self._report.add([Finding(Kind.ORDER_MISSING, order_id, "an order", "none", "order")])
        self._missing.clear()
        return self._report


def check_stock(stock: StockBooks) -> Iterator[Finding]:
    """Promises 3 and 5 for one SKU, at every moment: the inventory database agrees with itself."""
    told = partial(Finding, subject=stock.sku, where="inventory")
    for name, number in (("on hand", stock.on_hand), ("reserved", stock.reserved)):
        if number < 0:
            yield told(Kind.STOCK_NEGATIVE, expected=f">= 0 {name}", found=str(number))
    total = stock.on_hand + stock.reserved
    if total != stock.adjusted:
        yield told(Kind.STOCK_UNBALANCED, expected=str(stock.adjusted), found=str(total))
    for kind, number in ((Kind.STOCK_NOT_AS_MOVED, stock.moved), (Kind.STOCK_NOT_AS_HELD, stock.held)):
        if number != stock.reserved:
            yield told(kind, expected=str(number), found=str(stock.reserved))
    if stock.version != stock.steps:
        yield told(Kind.STOCK_STEPS_MISSING, expected=f"{stock.version} movements", found=str(stock.steps))


def check_service(service: ServiceBooks) -> Iterator[Finding]:
    """Promise 1 for one service at rest: nothing is under way."""
    under_way = {
        "unsent events": service.unsent,
        "open intents": service.open_intents,
        "events to be tried again": service.retrying,
    }
    for group, lag in service.lag.items():
        under_way[f"records that {group} has still to read"] = lag
    for what, count in under_way.items():
        if count:
            told = partial(Finding, subject=service.service, where=service.service)
            yield told(Kind.WORK_LEFT, expected=f"no {what}", found=str(count))
