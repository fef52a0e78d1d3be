"""What an operator has to see to is said when it begins, changes and ends, and makes nothing unready."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from orderflow.core.store import StoreUnavailableError
from orderflow.core.telemetry import AlarmCleared, AlarmRaised, Signal, Signals
from orderflow.http.operation import Request
from orderflow.runtime.health import READ_EVERY_S, AlarmWatch, HealthCheck, health_operations
from tests.unit.core.still_clock import StillClock


class Books:
    """What a service reads, one answer a reading, the last one for ever."""

    def __init__(self, *answers: Mapping[str, str] | Exception) -> None:
        self.answers = list(answers)

    async def __call__(self) -> Mapping[str, str]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_an_alarm_is_told_once_and_again_when_it_changes_and_when_it_is_over() -> None:
    seen: list[Signal] = []
    clock = StillClock()
    one, two = {"refunds": "1 refund refused"}, {"refunds": "2 refunds refused"}
    watch = AlarmWatch("payment", Books({}, one, one, two, {}), Signals([seen.append]), clock)

    for _ in range(5):
        await watch.step()

    assert seen == [
        AlarmRaised("payment", "refunds", "1 refund refused"),
        AlarmRaised("payment", "refunds", "2 refunds refused"),
        AlarmCleared("payment", "refunds"),
    ]
    assert clock.slept == [READ_EVERY_S] * 5


async def test_while_the_database_is_away_the_alarms_stand_as_they_were_read() -> None:
    seen: list[Signal] = []
    one = {"refunds": "1 refund refused"}
    watch = AlarmWatch(
        "payment", Books(one, StoreUnavailableError("away"), one), Signals([seen.append]), StillClock()
    )

    await watch.step()
    with pytest.raises(StoreUnavailableError):
        await watch.step()
    assert watch.found == one
    await watch.step()
    assert len(seen) == 1


async def test_an_alarm_is_in_the_body_of_the_health_check_and_leaves_it_ready() -> None:
    alarms: dict[str, str] = {}
    check = HealthCheck(StillClock(), alarms=lambda: alarms, process="")
    _, ready = health_operations(check)
    well = await ready.handler(Request(None, b"", {}, ""))
    alarms["refunds"] = "1 refund refused"
    alarmed = await ready.handler(Request(None, b"", {}, ""))

    assert msgspec.to_builtins(well.body) == {"ready": True, "problems": {}}
    assert (alarmed.status, msgspec.to_builtins(alarmed.body)) == (
        200,
        {"ready": True, "problems": {}, "alarms": {"refunds": "1 refund refused"}},
    )


@pytest.mark.parametrize(
    ("there_ms", "told"), [(0, ""), (-3_600_000, "3600 s ahead of"), (7_000, "7 s behind"), (4_000, "")]
)
async def test_a_clock_that_is_off_from_the_databases_is_an_alarm_and_no_problem(there_ms: int, told: str) -> None:
    clock = StillClock()

    async def database_ms() -> int:
        return clock.wall_ms() + there_ms

    check = HealthCheck(clock, process="", database_ms=database_ms)

    assert await check.problems() == {}
    assert list(check.all_alarms) == (["clock"] if told else [])
    assert told in check.all_alarms.get("clock", "")


async def test_of_a_database_that_is_away_nothing_is_said_about_clocks() -> None:
    async def database_ms() -> int:
        raise StoreUnavailableError("away")

    check = HealthCheck(StillClock(), process="", database_ms=database_ms)

    assert await check.problems() == {}
    assert check.all_alarms == {}
