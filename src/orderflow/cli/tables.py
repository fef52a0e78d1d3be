"""Tables and lines that fit the terminal: nothing wraps, and nothing is wider.

Where there is room, all is shown whole. Where there is not, times become relative first, then ids short (every
command takes a short one), then the columns go that matter least, and at last what is too long is cut with "...".
What goes to a file or a pipe is never cut. How far something is that takes long is a bar at a terminal, elsewhere a
line every few seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from orderflow.cli.errors import printable
from orderflow.cli.output import make_console, text
from orderflow.cli.values import short

NOW_MS = 1000


def moment(value: object) -> str:
    """An RFC 3339 time as local time with milliseconds; other text as it is, nothing as -."""
    if value is None:
        return "-"
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S.") + f"{at.microsecond // 1000:03d}"


def moment_of_ms(milliseconds: int) -> str:
    """The same of ms since the epoch."""
    try:
        return moment(datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat())
    except (OverflowError, OSError, ValueError):
        return str(milliseconds)


def clock_of_ms(milliseconds: int) -> str:
    """The local time of day alone."""
    return moment_of_ms(milliseconds).rpartition(" ")[2]


def now_ms() -> float:
    """Since the epoch, by this machine's clock."""
    return time.time() * 1000


def ago(value: object) -> str:
    """How long ago an RFC 3339 time is (`3 min ago`), or when it will be (`in 5.0 s`); other text as it is."""
    try:
        at = datetime.fromisoformat(str(value)).timestamp() * 1000
    except (ValueError, OverflowError, OSError):
        return str(value)
    passed = now_ms() - at
    if abs(passed) < NOW_MS:
        return "now"
    return f"{duration(passed)} ago" if passed > 0 else f"in {duration(-passed)}"


def duration(milliseconds: float) -> str:
    """`12 ms`, `3.4 s`, `5 min`, `2.1 h`, `3.0 d`."""
    seconds = milliseconds / 1000
    for limit, unit_s, form in ((60, 1.0, "{:.1f} s"), (3600, 60.0, "{:.0f} min"), (86_400, 3600.0, "{:.1f} h")):
        if seconds < 1:
            return f"{milliseconds:.0f} ms"
        if seconds < limit:
            return form.format(seconds / unit_s)
    return f"{seconds / 86_400:.1f} d"


if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

GAP = "  "
LEAST = 6
CUT = "..."
INDENT = 4
RANKS = (0, 1, 2)
TIME, ID = 1, 2


class Forms(NamedTuple):
    """A cell that has a short form, which is taken once room is wanting: TIME before ID."""

    whole: Text
    brief: Text
    rank: int

    def at(self, rank: int) -> Text:
        return self.brief if rank >= self.rank else self.whole


def when(value: object, style: str = "") -> Forms | Text:
    """A time: as such, or how long ago that is."""
    return text("-", style) if value is None else Forms(text(moment(value), style), text(ago(value), style), TIME)


def ident(value: object, style: str = "") -> Forms | Text:
    """The id of an order or an event; what is no UUID is left as it is."""
    brief = short(str(value))
    return text(value, style) if brief == value else Forms(text(value, style), text(brief, style), ID)


class _Fits:
    """Shown by rich in the room that there is."""

    def lines(self, width: int | None) -> Iterator[Text]:
        raise NotImplementedError

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return self.lines(options.max_width)


class Fitted(_Fits):
    """A table. `columns` of `right` hold numbers; those of `drop` go when there is no room, the first one first."""

    def __init__(
        self, columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str], drop: Sequence[str]
    ) -> None:
        self._columns = columns
        self._rows = [[_cell(cell) for cell in row] for row in rows]
        self._right = right
        self._drop = drop

    def lines(self, width: int | None) -> Iterator[Text]:
        """Its lines, none wider than `width` (None: as wide as they are)."""
        chosen, rank = self._fit(width)
        cells = [[text(self._columns[place], "bold") for place in chosen]]
        cells += [[_at(row[place], rank) for place in chosen] for row in self._rows]
        widths = [max(row[number].cell_len for row in cells) for number in range(len(chosen))]
        if width is not None:
            widths = _narrowed(widths, width, [self._columns[place] in self._right for place in chosen])
        for number, row in enumerate(cells):
            yield _joined([self._aligned(cell, *each) for cell, *each in zip(row, chosen, widths, strict=True)])
            if number == 0:
                yield text("\u2500" * (sum(widths) + len(GAP) * (len(widths) - 1)))

    def _fit(self, width: int | None) -> tuple[list[int], int]:
        """Which columns, and how brief their cells."""
        chosen = list(range(len(self._columns)))
        for rank in RANKS:
            if width is None or self._width(chosen, rank) <= width:
                return chosen, rank
        for name in self._drop:
            chosen = [place for place in chosen if self._columns[place] != name]
            if self._width(chosen, ID) <= width:  # type: ignore[operator]  # without a width it has fitted
                break
        return chosen, ID

    def _width(self, chosen: Sequence[int], rank: int) -> int:
        widest = [
            max([len(self._columns[place]), *(_at(row[place], rank).cell_len for row in self._rows)])
            for place in chosen
        ]
        return sum(widest) + len(GAP) * (len(widest) - 1)

    def _aligned(self, cell: Text, place: int, width: int) -> Text:
        shown = cut(cell, width)
        shown.align("right" if self._columns[place] in self._right else "left", width)
        return shown


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> Fitted:
    """Cells are `Text`, `Forms`, or values from anywhere."""
    return Fitted(columns, rows, right, drop)


class OneLine(_Fits):
    """Parts beside each other on one line; the last one is cut if all of it does not fit."""

    def __init__(self, *parts: Forms | Text) -> None:
        self._parts = parts

    def lines(self, width: int | None) -> Iterator[Text]:
        for rank in RANKS:
            shown = _joined([_at(part, rank) for part in self._parts])
            if width is None or shown.cell_len <= width:
                break
        yield shown if width is None else cut(shown, width)


def cut(cell: Text, width: int) -> Text:
    """A copy no wider than `width`, which says so if something is missing."""
    shown = cell.copy()
    if shown.cell_len > width:
        shown.truncate(max(0, width - len(CUT)))
        shown.append(CUT[: min(width, len(CUT))])
    return shown


def _cell(value: Any) -> Forms | Text:
    from rich.text import Text

    return value if isinstance(value, Forms | Text) else text("" if value is None else value)


def _at(cell: Forms | Text, rank: int) -> Text:
    return cell.at(rank) if isinstance(cell, Forms) else cell


def _joined(cells: Sequence[Text]) -> Text:
    from rich.text import Text

    line = Text(GAP).join(cells)
    line.rstrip()
    return line


def _narrowed(widths: Sequence[int], room: int, numbers: Sequence[bool]) -> list[int]:
    """The widest columns give first; numbers are whole as long as anything else can give."""
    left = list(widths)
    while (over := sum(left) + len(GAP) * (len(left) - 1) - room) > 0:
        giving = [place for place, number in enumerate(numbers) if not number and left[place] > LEAST]
        giving = giving or [place for place in range(len(left)) if left[place] > 1]
        if not giving:
            break
        widest = max(giving, key=lambda place: left[place])
        others = max((left[place] for place in giving if place != widest), default=0)
        floor = LEAST if not numbers[widest] else 1
        left[widest] = max(floor, min(left[widest] - 1, max(others, left[widest] - over)))
    return left


def entry(head: Iterable[Forms | Text], below: Iterable[Text]) -> Iterator[RenderableType]:
    """`head` on one line, and under it each of `below` that is not empty; what is too long goes on under itself."""
    from rich.padding import Padding

    yield OneLine(*head)
    for line in below:
        if line.plain:
            yield Padding(line, (0, 0, 0, INDENT), expand=False)


TIMES_PER_S = 8
EVERY_S = 5.0

Show = Callable[[str, int, int, str], None]
"""Name, how many are completed, of how many, and what stands beside it."""


@contextmanager
def bars(name_width: int, *, hidden: bool) -> Iterator[Show]:
    """Yields what shows how far each name is, on standard error; nothing is shown if `hidden`."""
    if hidden or not sys.stderr.isatty():
        with _lines(hidden=hidden) as show:
            yield show
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    tasks: dict[str, TaskID] = {}
    with Progress(
        TextColumn(f"{{task.description:<{name_width}}}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        TimeElapsedColumn(),
        console=make_console(to_errors=True),
        refresh_per_second=TIMES_PER_S,
        transient=True,
    ) as shown:

        def show(name: str, completed: int, total: int, told: str) -> None:
            if name not in tasks:
                tasks[name] = shown.add_task(name, told="")
            shown.update(tasks[name], completed=completed, total=total, told=printable(told))

        yield show


@contextmanager
def heartbeat(words: Callable[[], str], *, hidden: bool) -> Iterator[None]:
    """While the block runs, however it waits: every few seconds a line on standard error with `words`, unless
    `hidden` (programs read standard error for one document) or there are no words.
    """
    if hidden:
        yield
        return
    over, began = threading.Event(), time.monotonic()

    def beat() -> None:
        while not over.wait(EVERY_S):
            if said := words():
                # Who reads it may be gone; what it tells of goes on.
                with suppress(OSError, ValueError):
                    click.echo(f"after {duration((time.monotonic() - began) * 1000)}: {printable(said)}", err=True)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _lines(*, hidden: bool) -> Iterator[Show]:
    known: dict[str, str] = {}

    def show(name: str, completed: int, total: int, told: str) -> None:
        known[name] = f"{completed} of {total} {name}" + (f" ({told})" if told else "")

    with heartbeat(lambda: ", ".join(list(known.values())), hidden=hidden):
        yield show
