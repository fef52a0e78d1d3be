"""Whoever can cause a warning cannot rotate the logs away: what repeats itself is summed up."""

from __future__ import annotations

import logging
import threading
from typing import Any
from uuid import UUID

import pytest

from orderflow.core.inbox import Failure
from orderflow.core.telemetry import (
    Alerted,
    AlertOutcome,
    BatchCommitted,
    BatchSplit,
    Handled,
    Outcome,
    Signal,
    TaskFailed,
    Waiting,
)
from orderflow.observability.logs import EVERY_S, KINDS_MAX, TOLD_FIRST, Level
from orderflow.observability.signal_log import SignalLog, routed_logging
from tests.unit.observability.test_logs import ORDER, Kept, Paid, still, writer

MANY = 2_538


async def test_a_flood_of_warnings_is_told_at_first_and_then_summed_up_once_an_interval() -> None:
    sink, clock = Kept(), still()
    log = writer(sink, clock=clock)
    with routed_logging(log):
        for _ in range(3):
            for _ in range(MANY):
                logging.getLogger("asyncio").warning("Invalid HTTP request received.")
            await log.sum_up()
    lines = sink.lines()
    assert [line.get("repeated") for line in lines] == [None] * TOLD_FIRST + [MANY - TOLD_FIRST, MANY, MANY]
    assert {line["message"] for line in lines} == {"Invalid HTTP request received."}
    last = lines[-1]
    assert (last["action"], last["level"], last["within_s"]) == ("library", "warning", EVERY_S)
    assert last["time"] > lines[0]["time"]


async def test_a_kind_that_was_quiet_for_an_interval_is_told_again() -> None:
    sink = Kept()
    log = writer(sink)
    for _ in range(TOLD_FIRST + 1):
        log.write(Level.WARNING, "x")
    for _ in range(2):
        await log.sum_up()
    log.write(Level.WARNING, "x")
    assert [line.get("repeated") for line in sink.lines()] == [*[None] * TOLD_FIRST, 1, None]


def test_what_was_counted_is_told_by_the_next_line_and_at_the_end() -> None:
    sink, clock = Kept(), still()
    log = writer(sink, clock=clock)
    for _ in range(TOLD_FIRST + 3):
        log.write(Level.WARNING, "x", {"n": 1})
    clock.now += EVERY_S
    log.write(Level.ERROR, "y")
    log.write(Level.WARNING, "x", {"n": 2})
    log.close()
    told = [(line["action"], line.get("repeated")) for line in sink.lines()]
    assert told == [*[("x", None)] * TOLD_FIRST, ("x", 3), ("y", None), ("x", 1)]
    assert sink.lines()[-1]["n"] == 2


def test_lines_below_warning_are_never_counted() -> None:
    sink = Kept()
    log = writer(sink)
    for _ in range(100):
        log.write(Level.INFO, "x")
    assert len(sink.lines()) == 100


def test_a_warning_that_is_not_wanted_is_not_counted_either() -> None:
    sink = Kept()
    log = writer(sink, level=Level.ERROR)
    for _ in range(100):
        log.write(Level.WARNING, "x")
    log.close()
    assert sink.lines() == []


def test_however_many_kinds_there_are_memory_and_lines_are_bounded() -> None:
    sink = Kept()
    log = writer(sink)
    for number in range(50 * KINDS_MAX):
        log.write(Level.WARNING, "x", {"component": f"c{number}"})
    log.close()
    lines = sink.lines()
    assert len(lines) == KINDS_MAX + TOLD_FIRST + 1
    assert lines[-1]["repeated"] == 50 * KINDS_MAX - KINDS_MAX - TOLD_FIRST


def test_what_differs_only_in_its_numbers_is_of_one_kind() -> None:
    sink = Kept()
    log = writer(sink)
    with routed_logging(log):
        for number in range(MANY):
            logging.getLogger("asyncio").warning("Exception in callback <f at 0x%x>" % (number << 8))
    log.close()
    assert len(sink.lines()) == TOLD_FIRST + 1


def test_from_many_threads_none_is_lost() -> None:
    sink = Kept()
    log = writer(sink)

    def flood() -> None:
        for _ in range(500):
            log.write(Level.WARNING, "x")

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert sum(line.get("repeated", 1) for line in sink.lines()) == 8 * 500


def handled(outcome: Outcome, number: int, key: str, *, known: bool = True, error: str = "Boom") -> Handled:
    return Handled(
        outcome=outcome,
        key=key,
        event_id=UUID(int=number),
        event_type=f"evil-{number}" if not known else "orderflow.Paid.v1",
        message=Paid() if known else None,
        topic="payment-status",
        failure=Failure("unknown", error, "x", "f1") if outcome is Outcome.DEAD else None,
    )


FLOODS: dict[str, Signal] = {
    "a batch that is split": BatchSplit("order", "order", 3, "x"),
    "a part that waits": Waiting("order", "relay", "StoreUnavailableError: x", 1.0),
    "a task that fails": TaskFailed("order", "relay", ValueError("x")),
    "an alert that is refused": Alerted("order", "order", "f1", 3, AlertOutcome.RETRIED, "HTTP 500"),
    "undecodable records": BatchCommitted(
        "order", "order", [handled(Outcome.DEAD, n, f"key {n}", known=False) for n in range(MANY)], 0.1
    ),
    "commands that are refused": BatchCommitted(
        "order", "order", [handled(Outcome.REFUSED, n, str(UUID(int=n))) for n in range(MANY)], 0.1
    ),
}


@pytest.mark.parametrize("name", FLOODS)
def test_whatever_a_stranger_can_cause_is_summed_up(name: str) -> None:
    sink = Kept()
    log = writer(sink)
    tell = SignalLog(log)
    signal = FLOODS[name]
    for _ in range(1 if isinstance(signal, BatchCommitted) else MANY):
        tell(signal)
    log.close()
    assert counts(sink.lines()) == [*[1] * TOLD_FIRST, MANY - TOLD_FIRST]


@pytest.mark.parametrize("known", [True, False])
def test_each_dead_letter_of_an_order_is_told(known: bool) -> None:
    sink = Kept()
    orders = [f"{ORDER[:-4]}{n:04}" for n in range(100)]
    dead = [handled(Outcome.DEAD, n, order, known=known) for n, order in enumerate(orders)]
    SignalLog(writer(sink))(BatchCommitted("order", "order", dead, 0.1))
    assert [line["order_id"] for line in sink.lines()] == orders


def test_another_error_of_a_component_is_told_at_once() -> None:
    sink = Kept()
    tell = SignalLog(writer(sink))
    for _ in range(100):
        tell(Waiting("order", "relay", "StoreUnavailableError: x", 1.0))
    tell(Waiting("order", "relay", "TransportUnavailableError: y", 1.0))
    assert len(sink.lines()) == TOLD_FIRST + 1
    assert sink.lines()[-1]["error"] == "TransportUnavailableError: y"


def counts(lines: list[dict[str, Any]]) -> list[int]:
    return [line.get("repeated", 1) for line in lines]
