"""The five promises over all books: orders one by one, then the stock and what is under way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orderflow.audit.books import Books, OrderBooks, ServiceBooks, StockBooks
from orderflow.audit.findings import KEPT, Finding, Promise, Report
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
        self._keep(check_order(books, at_rest=report.at_rest))

    def take_stock(self, stock: StockBooks) -> None:
        self._keep(check_stock(stock))

    def take_service(self, service: ServiceBooks) -> None:
        if self._report.at_rest:
            self._keep(check_service(service))

    def finish(self) -> Report:
        """The report, with the accepted orders that nobody has."""
        for order_id in self._missing:
            what = "an accepted order does not exist"
            self._keep([Finding(Promise.NOTHING_LOST, order_id, what, "an order", "none")])
        self._missing.clear()
        return self._report

    def _keep(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self._report.count += 1
            if len(self._report.findings) < KEPT:
                self._report.findings.append(finding)


def check_stock(stock: StockBooks) -> Iterator[Finding]:
    """Promises 3 and 5 for one SKU, at every moment: the inventory database agrees with itself."""
    for name, number in (("on hand", stock.on_hand), ("reserved", stock.reserved)):
        if number < 0:
            yield Finding(Promise.NOTHING_ILLEGAL, stock.sku, f"{name} is negative", ">= 0", str(number))
    total = stock.on_hand + stock.reserved
    if total != stock.adjusted:
        what = "on hand + reserved is not what was put in"
        yield Finding(Promise.BOOKS_BALANCE, stock.sku, what, str(stock.adjusted), str(total))
    for name, number in (("moved for orders", stock.moved), ("held by reservations", stock.held)):
        if number != stock.reserved:
            what = f"reserved is not what is {name}"
            yield Finding(Promise.BOOKS_BALANCE, stock.sku, what, str(number), str(stock.reserved))


def check_service(service: ServiceBooks) -> Iterator[Finding]:
    """Promise 1 for one service at rest: nothing is under way."""
    under_way = {
        "the outbox is not empty": service.unsent,
        "intents are open": service.open_intents,
        "events are waiting for another try": service.retrying,
    }
    for group, lag in service.lag.items():
        under_way[f"the group {group} lags behind"] = lag
    for what, count in under_way.items():
        if count:
            yield Finding(Promise.NOTHING_LOST, service.service, what, "0", str(count))
