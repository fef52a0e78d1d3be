"""Log lines: what is in them, and what cannot get into them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import pytest

from orderflow.core.inbox import Failure
from orderflow.core.messages import Event
from orderflow.core.telemetry import (
    UNAVAILABLE,
    AlarmCleared,
    AlarmRaised,
    Alerted,
    AlertOutcome,
    BatchCommitted,
    BatchSplit,
    FaultsCleared,
    FaultsIgnored,
    FaultsSet,
    Handled,
    IntentAsked,
    KeyReopened,
    OutageJudged,
    OutageOver,
    OutboxPurged,
    Outcome,
    Relayed,
    Resumed,
    Signal,
    SlotsChanged,
    TaskFailed,
    TopicReplaced,
    Waiting,
)
from orderflow.observability.logs import Level, LogWriter, RotatingFileSink, open_log, redact
from orderflow.observability.signal_log import SignalLog, routed_logging
from tests.support.records import written
from tests.unit.core.still_clock import StillClock

ORDER = "0190a1b2-0000-7000-8000-000000000001"
EVENT = UUID("6f1a3f5e-5b0e-5c6e-9a7d-0d2f7c1b9e42")
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Paid(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "orderflow.Paid"
    TOPIC: ClassVar[str] = "payment-status"


class Kept:
    """A sink that keeps what it gets, one entry a write."""

    def __init__(self) -> None:
        self.dropped = 0
        self.writes: list[bytes] = []

    def write(self, lines: bytes) -> None:
        self.writes.append(lines)

    def close(self) -> None:
        return

    def lines(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for each in self.writes for line in each.splitlines()]


def writer(
    sink: Kept, *, text: bool = False, level: Level = Level.INFO, clock: StillClock | None = None
) -> LogWriter:
    return LogWriter("order", sink, level=level, text=text, colour=False, clock=clock or still())


def still() -> StillClock:
    clock = StillClock()
    clock.now = 1_700_000_000.123
    return clock


def handled(outcome: Outcome = Outcome.HANDLED, key: str = ORDER, error: str = "") -> Handled:
    name, _, message = error.partition(": ")
    return Handled(
        outcome=outcome,
        key=key,
        event_id=EVENT,
        event_type="orderflow.Paid.v1",
        message=Paid(),
        caused=(Paid(),),
        traceparent=f"00-{TRACE}-b7ad6b7169203331-01",
        topic="payment-status",
        partition=3,
        offset=7,
        attempts=2,
        failure=Failure("unknown", name, message, "f1") if error else None,
    )


def test_a_batch_is_one_write_with_a_line_a_message() -> None:
    sink = Kept()
    SignalLog(writer(sink))(BatchCommitted("order", "order", [handled(), handled(Outcome.DUPLICATE)], 0.01))
    assert len(sink.writes) == 1
    first, second = sink.lines()
    assert first == {
        "time": "2023-11-14T22:13:20.123Z",
        "level": "info",
        "service": "order",
        "action": "message-handled",
        "order_id": ORDER,
        "event_type": "orderflow.Paid.v1",
        "event_id": str(EVENT),
        "consumer": "order",
        "caused": ["orderflow.Paid"],
        "trace_id": TRACE,
        "topic": "payment-status",
        "partition": 3,
        "offset": 7,
    }
    assert second["action"] == "message-duplicate"


def test_a_service_can_say_more_of_what_it_has_handled_and_nothing_in_it_does_harm() -> None:
    sink = Kept()
    log = SignalLog(writer(sink), lambda message: {"told": f"{type(message).__name__}\n\x1b[31m"})
    log(BatchCommitted("order", "order", [handled(), handled(Outcome.DUPLICATE)], 0.01))
    first, second = sink.lines()
    assert first["told"] == "Paid\\n\\x1b[31m"
    assert "told" not in second


def test_parked_is_a_warning_and_dead_is_an_error_whatever_the_level() -> None:
    sink = Kept()
    log = SignalLog(writer(sink, level=Level.WARNING))
    batch = [handled(), handled(Outcome.PARKED, error="Boom: x"), handled(Outcome.DEAD, error="Boom: y")]
    log(BatchCommitted("order", "order", batch, 0.01))
    assert [(line["level"], line["error"]) for line in sink.lines()] == [
        ("warning", "Boom: x"),
        ("error", "Boom: y"),
    ]


@pytest.mark.parametrize("text", [False, True])
def test_what_comes_from_outside_breaks_no_line_and_moves_no_cursor(text: bool) -> None:
    sink = Kept()
    evil = 'x\n{"level":"error"}\r\x1b[2J\u202e\u2028\ud800\x00'
    log = SignalLog(writer(sink, text=text))
    log(BatchCommitted("order", "order", [handled(Outcome.PARKED, key=evil, error=f"Boom: {evil}")], 0.01))
    log(TaskFailed("order", "relay", RuntimeError(evil)))
    log(Waiting("order", "relay", evil, 1.0))
    written = b"".join(sink.writes).decode()
    assert written.count("\n") == 3
    assert written.endswith("\n")
    assert all(character.isprintable() or character == "\n" for character in written)


def test_no_password_gets_into_a_line() -> None:
    sink = Kept()
    log = SignalLog(writer(sink))
    log(Waiting("order", "database", "cannot reach postgresql://me:geheim@h/d?password=geheim", 1.0))
    log(TaskFailed("order", "relay", RuntimeError("postgresql://me:geheim@h")))
    assert b"geheim" not in b"".join(sink.writes)
    assert redact("postgresql://me:a@b@h/d") == "postgresql://me:***@h/d"


@pytest.mark.parametrize(
    ("signal", "action", "level"),
    [
        (BatchSplit("order", "order", 3, "x"), "batch-split", "warning"),
        (KeyReopened("order", "order", ORDER, 2), "key-reopened", "info"),
        (OutageJudged("order", "order", "orderflow.Paid.v1", "f1", "Boom: x", 9, 10), "outage-judged", "error"),
        (OutageOver("order", "order", "orderflow.Paid.v1", 12.0), "outage-over", "info"),
        (Waiting("order", "relay", "x", 1.0), "waiting", "warning"),
        (Resumed("order", "relay", 1.0), "resumed", "info"),
        (TopicReplaced("order", "consumer order", "payment-status", "x"), "topic-replaced", "error"),
        (Relayed("order", [written()] * 3, 5, 0.1), "outbox-relayed", "debug"),
        (SlotsChanged("order", [2, 1]), "slots-changed", "info"),
        (IntentAsked("order", f"charge:{ORDER}", "charge", ORDER, "ChargeApproved", 1, 0.1), "intent-asked", "debug"),
        (IntentAsked("order", f"charge:{ORDER}", "charge", ORDER, "ChargeApproved", 2, 0.1), "intent-asked", "info"),
        (IntentAsked("order", f"charge:{ORDER}", "charge", ORDER, UNAVAILABLE, 1, 0.1), "intent-asked", "info"),
        (OutboxPurged("order", 1), "outbox-purged", "info"),
        (Alerted("order", "order", "f1", 3, AlertOutcome.SENT, ""), "alert-sent", "info"),
        (Alerted("order", "order", "f1", 3, AlertOutcome.RETRIED, "HTTP 500"), "alert-retried", "warning"),
        (Alerted("order", "order", "f1", 3, AlertOutcome.FAILED, "HTTP 404"), "alert-failed", "error"),
        (Alerted("order", "order", "f1", 3, AlertOutcome.DROPPED, "x"), "alert-dropped", "error"),
        (TaskFailed("order", "relay", ValueError("x")), "task-failed", "error"),
        (AlarmRaised("payment", "refunds", "1 refund refused"), "alarm-raised", "error"),
        (AlarmCleared("payment", "refunds"), "alarm-cleared", "info"),
        (FaultsSet("order", ["fault 1"]), "faults-set", "warning"),
        (FaultsCleared("order"), "faults-cleared", "warning"),
        (FaultsIgnored("order", ["fault 1"]), "faults-ignored", "warning"),
    ],
)
def test_every_signal_has_its_line(signal: Signal, action: str, level: str) -> None:
    sink = Kept()
    SignalLog(writer(sink, level=Level.DEBUG))(signal)
    [line] = sink.lines()
    assert (line["action"], line["level"]) == (action, level)


def test_text_for_people_is_one_line_with_the_same_facts() -> None:
    sink = Kept()
    SignalLog(writer(sink, text=True))(BatchCommitted("order", "order", [handled()], 0.01))
    [line] = b"".join(sink.writes).decode().splitlines()
    assert line.startswith(f"22:13:20.123 info    order message-handled order_id={ORDER} ")
    assert "caused=orderflow.Paid" in line


def test_a_file_rotates_by_size_and_keeps_so_many(tmp_path: Path) -> None:
    sink = RotatingFileSink(tmp_path / "logs" / "x.log", max_bytes=100, kept=2)
    for number in range(10):
        sink.write(f"{number:>39}\n".encode())
    sink.close()
    found = {path.name: path.read_text().split() for path in (tmp_path / "logs").iterdir()}
    assert found == {"x.log": ["8", "9"], "x.log.1": ["6", "7"], "x.log.2": ["4", "5"]}


def test_a_file_that_cannot_be_written_drops_lines_and_recovers(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    sink = RotatingFileSink(tmp_path / "logs" / "x.log", max_bytes=100, kept=2)
    sink.write(b"lost\n")
    assert sink.dropped == 1
    (tmp_path / "logs").unlink()
    sink.write(b"kept\n")
    sink.close()
    assert (tmp_path / "logs" / "x.log").read_text() == "kept\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_drops_lines_and_stops_nothing() -> None:
    sink = RotatingFileSink(Path("/dev/full"), max_bytes=100_000, kept=1)
    sink.write(b"lost\n")
    assert sink.dropped == 1


@pytest.fixture
def restored_logging() -> Iterator[None]:
    before = list(logging.getLogger().handlers)
    yield
    assert logging.getLogger().handlers == before


@pytest.mark.usefixtures("restored_logging")
def test_libraries_log_through_the_same_writer_from_warning_on() -> None:
    sink = Kept()
    with routed_logging(writer(sink)):
        logging.getLogger("starlette").info("quiet")
        logging.getLogger("starlette").warning("Invalid %s\n", "request")
        logging.getLogger("asyncio").error("broken", exc_info=ValueError("postgresql://a:geheim@h"))
        logging.getLogger("x").warning("%d", "not a number")
    first, second, third = sink.lines()
    assert (first["logger"], first["level"], first["message"]) == ("starlette", "warning", "Invalid request")
    assert (second["error"], second["detail"]) == ("ValueError", "postgresql://a:***@h")
    assert third["message"] == "%d"


def test_a_log_that_is_no_terminal_is_json(tmp_path: Path) -> None:
    log = open_log(
        "order",
        style="auto",
        level="info",
        file=tmp_path / "x.log",
        file_max_bytes=1000,
        files_kept=1,
        clock=StillClock(),
    )
    log.write(Level.INFO, "started", {"port": 1})
    log.write(Level.DEBUG, "hidden")
    log.close()
    [line] = (tmp_path / "x.log").read_bytes().splitlines()
    assert msgspec.json.decode(line)["port"] == 1
