"""`/ops/outbox/published` and `/ops/outbox/republish` over a service in memory."""

from __future__ import annotations

import httpx2
import pytest

from tests.unit.core.recovery.bench import Bench
from tests.unit.core.toy import Counted
from tests.unit.runtime.test_operators import asking

ACT = {"reason": "the topic was deleted", "confirmed": True}


@pytest.fixture
async def bench() -> Bench:
    """A service that has published something about three keys."""
    bench = Bench()
    await bench.world.admit(*(Counted(name=name, amount=1) for name in ("a", "b", "c")))
    bench.world.database.state.pending.clear()
    return bench


@pytest.fixture
def ops(bench: Bench) -> httpx2.AsyncClient:
    return asking(bench)


async def test_what_was_published_is_counted_by_topic(bench: Bench, ops: httpx2.AsyncClient) -> None:
    (row,) = (await ops.get("/ops/outbox/published")).json()

    assert (row["topic"], row["count"]) == ("totals", 3)
    assert row["oldest"] <= row["newest"]
    assert [each["count"] for each in (await ops.get("/ops/outbox/published", params={"key": "b"})).json()] == [1]
    assert (await ops.get("/ops/outbox/published", params={"topic": "else"})).json() == []
    assert (await ops.get("/ops/outbox/published", params={"from_ms": 10**18})).status_code == 422


async def test_events_are_made_unsent_again_and_the_act_is_logged(bench: Bench, ops: httpx2.AsyncClient) -> None:
    done = await ops.post("/ops/outbox/republish", json={"key": "b", **ACT})
    (action,) = (await ops.get("/ops/actions")).json()

    assert (done.status_code, done.json()) == (200, {"republished": 1})
    assert len(bench.world.database.state.pending) == 1
    assert {name: action[name] for name in ("who", "action", "target", "reason", "result")} == {
        "who": "ada (says ada@desk)",
        "action": "republish",
        "target": "key b",
        "reason": "the topic was deleted",
        "result": "1 to publish again.",
    }


async def test_what_is_not_confirmed_or_not_there_is_refused_and_not_logged(
    bench: Bench, ops: httpx2.AsyncClient
) -> None:
    unconfirmed = await ops.post("/ops/outbox/republish", json={"reason": "r"})
    unexplained = await ops.post("/ops/outbox/republish", json={"reason": " ", "confirmed": True})
    none = await ops.post("/ops/outbox/republish", json={"topic": "else", **ACT})

    assert [each.status_code for each in (unconfirmed, unexplained, none)] == [428, 428, 409]
    assert "no published event of that kind" in none.json()["detail"]
    assert bench.world.database.state.pending == {}
    assert (await ops.get("/ops/actions")).json() == []
