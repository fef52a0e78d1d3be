"""What `up` says while it works. Telling stops nothing: an output that fails or stands still loses lines, no more."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import TextIOBase
from typing import TYPE_CHECKING, Protocol, TextIO, cast

from orderflow.local.state import Running
from orderflow.observability.logs import BackgroundSink

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from orderflow.settings import Settings

LAST_WORDS_S = 1.0
NOWHERE = -1
FIRST_ORDER = {
    "customer_id": "ada",
    "currency": "EUR",
    "items": [{"sku": "SKU-ESPRESSO-CUP", "quantity": 2, "unit_price": 1250}],
    "payment_method": "pm_card_visa",
}


class Reporter(Protocol):
    """`step` is work that has begun; `note` is a line that stays. Nothing of it raises or waits."""

    def step(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...

    def table(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None: ...

    def close(self) -> None:
        """Take away what moves, and wait a moment until all is shown. It can be spoken to afterwards."""
        ...


class Unfailing(TextIOBase):
    """A text stream over a descriptor: what its reader does not take is dropped, and told when it reads again."""

    def __init__(self, descriptor: int, encoding: str, *, terminal: bool) -> None:
        self._sink = BackgroundSink(descriptor)
        self._encoding = encoding
        self._terminal = terminal
        self._dropped = 0

    @property
    def encoding(self) -> str:  # type: ignore[override]  # theirs is an attribute
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        if self._sink.dropped > self._dropped:
            self._dropped = self._sink.dropped
            text = f"({self._dropped} lines so far could not be shown)\n{text}"
        self._sink.write(text.encode(self._encoding, "backslashreplace"))
        return len(text)

    def wait(self, timeout_s: float) -> None:
        """Until all is written, so long at most."""
        self._sink.flush(timeout_s)


class PlainReporter:
    """Lines of text, for files and programs; `timed` ones begin with the time, as in a log."""

    def __init__(self, output: TextIO | None = None, *, timed: bool = False) -> None:
        self._output = output or cast(TextIO, unfailing_stdout())
        self._timed = timed

    def step(self, text: str) -> None:
        self.note(f"{text} ...")

    def note(self, text: str) -> None:
        time = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC " if self._timed else ""
        self._output.write("".join(f"{time}{line}\n" for line in text.splitlines() or [""]))
        self._output.flush()

    def table(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
        self.note(title)
        for name, address, remark in rows:
            self.note(f"  {name:<16} {address}  {remark}".rstrip())

    def close(self) -> None:
        if isinstance(self._output, Unfailing):
            self._output.wait(LAST_WORDS_S)


class TerminalReporter:
    """A spinner with the present step, then a table."""

    def __init__(self) -> None:
        from rich.console import Console

        self._output = unfailing_stdout()
        self._console: Console = Console(highlight=False, file=cast(TextIO, self._output))
        self._status: Status | None = None

    def step(self, text: str) -> None:
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def note(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(text), soft_wrap=True)

    def table(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
        from rich.table import Table

        self._end_step()
        table = Table(box=None, show_header=False, padding=(0, 2))
        for row in rows:
            table.add_row(*row)
        self.note(title)
        self._console.print(table)

    def close(self) -> None:
        self._end_step()
        self._output.wait(LAST_WORDS_S)

    def _end_step(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def unfailing_stdout() -> Unfailing:
    """Standard output, past Python's own buffer, whose lock a write that stands still would hold."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError):
        # There is none (`up >&-`): what is said goes nowhere.
        return Unfailing(NOWHERE, "utf-8", terminal=False)
    return Unfailing(descriptor, sys.stdout.encoding or "utf-8", terminal=sys.stdout.isatty())


@contextmanager
def for_output(*, timed: bool = False) -> Iterator[Reporter]:
    """The one that fits standard output, closed at the end."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    fitting = TerminalReporter() if terminal else PlainReporter(timed=timed)
    try:
        yield fitting
    finally:
        fitting.close()


def rows(processes: Sequence[Running]) -> list[tuple[str, str, str]]:
    """Name, address, and what else is to be said of each."""
    return [(process.name, process.address, _remark(process)) for process in processes]


def _remark(process: Running) -> str:
    told = [f"operators at {process.ops_address}"] if process.ops_address else []
    told.append(f"process {process.pid}")
    if process.restarts:
        told.append(f"{process.restarts} restarts")
    return ", ".join(told)


def first_order(order_address: str) -> str:
    """A curl line that places an order and shows it when it is final."""
    body = json.dumps(FIRST_ORDER)
    return f"curl -s {order_address}/orders -H 'Content-Type: application/json' -d '{body}'"


def tell_ready(
    reporter: Reporter, processes: Sequence[Running], settings: Settings, carried_by: str, *, detached: bool = False
) -> None:
    """Where the page is, the table, and what to try next."""
    page = next((process.address for process in processes if process.kind == "console"), None)
    if page is not None:
        sign_in = settings.command("console --sign-in")
        reporter.note(f"Open {page} to watch orders flow; to act there, sign in with: {sign_in}\n")
    reporter.table(f"Orderflow is running on {carried_by}; data in {settings.home}", rows(processes))
    order = next((process for process in processes if process.name == "order"), None)
    if order is not None:
        reporter.note("\nPlace a first order:")
        reporter.note(f"  {first_order(order.address)}")
        reporter.note(f"and see what happened to it:\n  curl -s '{order.address}/orders/ID?wait=5'")
    how = f"`{settings.command('down')}`" if detached else "Ctrl-C"
    reporter.note(f"\n{how} stops everything.")
