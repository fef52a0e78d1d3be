"""Readings of the services: taken while somebody watches, and what two of them say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from orderflow.console.asking import AskError, Services
from orderflow.console.sampling import GAP_S, Counter, Exposition, Reading, Sampler, rate
from tests.support.waiting import eventually

TEXT = """\
# HELP orderflow_messages_total Messages that came in
# TYPE orderflow_messages_total counter
orderflow_messages_total{consumer="order",event_type="orderflow.PlaceOrder.v1",outcome="handled"} 300.0
orderflow_messages_total{consumer="order",event_type="a\\"b\\\\c\\nd",outcome="dead"} 2.0
orderflow_batch_size_bucket{consumer="order",le="1.0"} 7.0
orderflow_outbox_unsent 4.0
process_cpu_seconds_total 0.76
"""


def test_an_exposition_is_read_with_its_labels() -> None:
    found = Exposition(TEXT)
    assert found.total("messages_total") == 302
    assert found.total("messages_total", outcome="handled") == 300
    assert found.total("outbox_unsent") == 4
    assert [labels["event_type"] for labels, _ in found.of("messages_total")][1] == 'a"b\\c\nd'
    assert found.total("batch_size_bucket") == 0


def reading(at: float, **counters: float) -> Reading:
    named: Mapping[Counter, float] = {tuple(name.split("_")): value for name, value in counters.items()}
    return Reading(at, round(at * 1000), {}, named)


def test_a_rate_is_what_has_grown_a_second() -> None:
    readings = [reading(0, a_x=10, a_y=0, b_x=5), reading(2, a_x=30, a_y=4, b_x=500)]
    assert rate(readings, "a") == 12
    assert rate(readings, "a", "y") == 2
    assert rate(readings[:1], "a") is None


def test_a_process_that_began_anew_counts_from_nothing() -> None:
    assert rate([reading(0, a_x=1_000), reading(1, a_x=7)], "a") == 7


def test_a_process_that_is_new_has_grown_by_nothing_that_anybody_saw() -> None:
    assert rate([reading(0, a_x=10), reading(1, a_x=11, a_z=500)], "a") == 1


def test_what_a_process_counts_for_the_first_time_has_grown_since_it_was_read() -> None:
    before = replace(reading(0, a_x=10), read=frozenset({"x", "z"}))
    assert rate([before, reading(1, a_x=11, a_z=500)], "a") == 501


class Away:
    """Services of which none answers; counts what is asked."""

    names = ("order",)

    def __init__(self) -> None:
        self.asked = 0

    def process_urls(self, name: str) -> list[str]:
        self.asked += 1
        return ["http://127.0.0.1:1"]

    async def scrape(self, name: str, address: str) -> str:
        raise AskError("it does not answer")

    async def inspect(self, *asked: Any) -> Any:
        raise AskError("it does not answer")

    async def read(self, *asked: Any) -> Any:
        raise AskError("it does not answer")


@pytest.fixture
def away() -> Away:
    return Away()


async def test_nothing_is_asked_while_nobody_watches(away: Away) -> None:
    sampler = Sampler(cast(Services, away), lambda _: ())
    assert away.asked == 0
    async with sampler.watched():
        first = await sampler.next_after(None)
        second = await sampler.next_after(first)
    assert first.services["order"].state == "down"
    assert second.at > first.at
    await eventually(lambda: sampler.is_at_rest)
    asked = away.asked
    async with sampler.watched():
        await sampler.next_after(second)
    assert away.asked > asked
    await sampler.close()


async def test_after_a_time_in_which_nobody_watched_rates_begin_anew_and_the_chart_has_a_gap(away: Away) -> None:
    clock = {"at": 0.0}
    sampler = Sampler(cast(Services, away), lambda _: (1.0, 2.0), lambda: clock["at"])
    for at in (100.0, 103.0, 103.0 + GAP_S, 104.0 + 2 * GAP_S):
        clock["at"] = at
        await sampler.fresh()

    assert [each.at for each in sampler.readings] == [104.0 + 2 * GAP_S]
    assert [each[1:] for each in sampler.trace] == [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [None, None], [1.0, 2.0]]


async def test_two_who_watch_share_one_reading(away: Away) -> None:
    sampler = Sampler(cast(Services, away), lambda _: ())
    async with sampler.watched(), sampler.watched():
        reading = await sampler.next_after(None)
        assert await sampler.next_after(None) is reading
    await sampler.close()


async def test_a_service_that_cannot_be_reached_is_said_in_a_sentence(tmp_path: Path) -> None:
    from orderflow.settings import Settings

    settings = Settings.load(environ={"ORDERFLOW_ORDER_URL": "http://127.0.0.1:1"}, home=None)
    services = Services(tmp_path, lambda: settings)
    with pytest.raises(AskError, match="The order service does not answer"):
        await services.get("order", "/orders")
    await services.close()
