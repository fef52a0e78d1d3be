"""Where lines go: an output that fails or stands still loses lines and stops nobody."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, cast

import msgspec
import pytest

from orderflow.core.timing import SystemClock
from orderflow.local.reporter import PlainReporter, Unfailing
from orderflow.observability.logs import (
    BackgroundSink,
    DescriptorSink,
    Level,
    LogWriter,
    RotatingFileSink,
    descriptor_sink,
)
from tests.support.waiting import eventually


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its reading and its writing end."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_only_a_file_is_written_at_once(pipe: tuple[int, int], tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        assert isinstance(descriptor_sink(file.fileno()), DescriptorSink)
    assert isinstance(descriptor_sink(pipe[1]), BackgroundSink)


async def test_a_reader_that_stands_still_holds_nobody_up_and_gets_what_there_was_room_for(
    pipe: tuple[int, int],
) -> None:
    reading, writing = pipe
    sink = BackgroundSink(writing, waiting_bytes_max=1 << 20)
    line = b"." * 65_535 + b"\n"
    for _ in range(40):
        sink.write(line)
    assert sink.dropped >= 20
    assert not sink.flush(0.0)

    taken, os_dropped = 0, sink.dropped
    while taken < (40 - os_dropped) * len(line):
        taken += len(os.read(reading, 1 << 20))
    assert sink.flush(10.0)
    assert sink.dropped == os_dropped


async def test_a_reader_that_is_gone_is_counted() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    sink = BackgroundSink(writing)
    sink.write(b"lost\n")
    await eventually(lambda: sink.dropped == 1)
    sink.close()
    sink.write(b"late\n")
    assert sink.dropped == 2
    os.close(writing)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a file's size are of POSIX")
def test_a_disk_that_fills_up_leaves_no_half_line(tmp_path: Path) -> None:
    import resource

    log = tmp_path / "x.log"
    sink = RotatingFileSink(log, max_bytes=1_000_000, kept=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))
    try:
        sink.write(b"a" * 99 + b"\n")
        sink.write(b"b" * 99 + b"\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sink.write(b"c" * 99 + b"\n")
    sink.close()
    assert sink.dropped == 1
    assert [line[:1] for line in log.read_text().splitlines()] == ["a", "c"]


def test_a_log_that_cannot_be_renamed_grows_and_loses_nothing(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    (tmp_path / "x.log.1" / "in the way").mkdir(parents=True)
    sink = RotatingFileSink(log, max_bytes=10, kept=1)
    for number in range(3):
        sink.write(f"{number:>9}\n".encode())
    sink.close()
    assert log.read_text().split() == ["0", "1", "2"]
    assert sink.dropped == 0


class Deaf:
    """A sink that takes nothing for as long as `deaf` is set."""

    def __init__(self) -> None:
        self.dropped = 0
        self.deaf = True
        self.written = b""

    def write(self, lines: bytes) -> None:
        if self.deaf:
            self.dropped += 1
        else:
            self.written += lines

    def close(self) -> None:
        return


def test_what_was_lost_is_told_as_soon_as_it_can_be() -> None:
    sink = Deaf()
    log = LogWriter("order", sink, level=Level.INFO, text=False, colour=False, clock=SystemClock())
    log.write(Level.INFO, "one")
    log.write(Level.INFO, "two")
    sink.deaf = False
    log.write(Level.INFO, "three")
    log.write(Level.INFO, "four")
    lines = [msgspec.json.decode(line) for line in sink.written.splitlines()]
    # The second write tried to tell of the first, and was lost with it.
    assert [(line["action"], line.get("writes")) for line in lines] == [
        ("log-dropped", 2),
        ("three", None),
        ("four", None),
    ]


def test_up_tells_how_much_it_could_not_show(tmp_path: Path) -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    reporter = PlainReporter(cast(TextIO, Unfailing(descriptor, "utf-8", terminal=False)))
    reporter.note("lost")
    reporter.close()
    with (tmp_path / "said").open("wb") as said:
        os.dup2(said.fileno(), descriptor)
    reporter.note("shown")
    reporter.close()
    os.close(descriptor)
    assert (tmp_path / "said").read_text() == "(1 lines so far could not be shown)\nshown\n"
