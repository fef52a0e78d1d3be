"""`/ops/…` over a service whose events really fail, its database and its log in memory."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import httpx2
import msgspec
import pytest

from orderflow.core.operations.model import Expired
from orderflow.core.testing import MemoryTransport
from orderflow.core.testing.store import MemoryStore
from orderflow.http.application import Application
from orderflow.http.openapi import build_openapi
from orderflow.http.operation import Operation
from orderflow.http.operators.operators import operator_operations
from orderflow.http.operators.queues import Queues
from tests.support.callers import of_caller, person
from tests.support.frame import Recorder
from tests.support.waiting import eventually
from tests.unit.core.recovery.bench import Bench

ME = {"x-orderflow-operator": "ada@desk"}
SHE = "ada (says ada@desk)"
FITS = '{"name":"a","amount":5}'
ALL: dict[str, Any] = {"filter": {}, "plan": {"failing_share_max": 1}}


def operations(bench: Bench) -> list[Operation]:
    service = bench.world.service
    queues = Queues(service, MemoryStore(bench.world.database), MemoryTransport(bench.log))
    return list(operator_operations(service, bench.recovery, bench.engine.overruling, queues))


def asking(bench: Bench) -> httpx2.AsyncClient:
    frame = Application(operations(bench), Recorder().state)
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=of_caller(frame, person("ada"))), base_url="http://x", headers=ME
    )


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def ops(bench: Bench) -> httpx2.AsyncClient:
    return asking(bench)


async def names(ops: httpx2.AsyncClient, **query: str | int) -> list[str]:
    page = (await ops.get("/ops/dead-letters", params=query)).json()
    return [letter["key"] for letter in page["dead_letters"]]


async def test_a_list_is_narrowed_by_each_of_its_filters(bench: Bench, ops: httpx2.AsyncClient) -> None:
    await bench.bury("a", "b")
    (letter, _) = (await ops.get("/ops/dead-letters")).json()["dead_letters"]

    assert await names(ops) == ["a", "b"]
    assert await names(ops, key="b") == ["b"]
    for filters in ({"type": "toy.Other.v1"}, {"topic": "others"}, {"consumer": "nobody"}, {"fingerprint": "none"}):
        name, value = next(iter(filters.items()))
        known = {"type": "event_type"}.get(name, name)
        assert await names(ops, **{name: value}) == []
        assert await names(ops, **{name: letter[known]}) == ["a", "b"]
    for name in ("Counted", "toy.Counted", "toy.Counted.v1"):
        assert await names(ops, type=name) == ["a", "b"]
    for name in ("Count", "counted", "toy.Counted.v2", "v1", ""):
        assert await names(ops, type=name) == []
    assert await names(ops, older_than_ms=3_600_000) == []
    assert (await ops.get("/ops/dead-letters", params={"state": "gone"})).status_code == 422


async def test_what_waits_is_told_from_what_is_dead(bench: Bench, ops: httpx2.AsyncClient) -> None:
    await bench.bury("a")
    await bench.processor().admit("counter", [bench.world.read(bench.counted("a", 2))])

    assert [await names(ops, state=state) for state in ("dead", "held", "parked", "retrying", "all")] == [
        ["a"],
        ["a"],
        ["a"],
        [],
        ["a", "a"],
    ]


async def test_a_page_ends_where_the_next_one_begins(bench: Bench, ops: httpx2.AsyncClient) -> None:
    await bench.bury("a", "b", "c")
    first = (await ops.get("/ops/dead-letters", params={"limit": 2})).json()
    second = (await ops.get("/ops/dead-letters", params={"limit": 2, "after": first["next"]})).json()

    assert [letter["key"] for letter in first["dead_letters"] + second["dead_letters"]] == ["a", "b", "c"]
    assert second["next"] is None


async def test_an_event_is_told_with_its_history_and_what_waits_behind(bench: Bench, ops: httpx2.AsyncClient) -> None:
    (event,) = await bench.bury("a")
    await bench.processor().admit("counter", [bench.world.read(bench.counted("a", 2))])
    by_id, by_position = [
        (await ops.get(f"/ops/dead-letters/{each}")).json() for each in (event.event_id, event.position)
    ]

    assert by_id == by_position
    assert [each["moment"] for each in by_id["history"]] == ["dead"]
    assert [each["state"] for each in by_id["followers"]] == ["held"]
    assert by_id["letter"]["behind"] == 1
    assert msgspec.json.decode(by_id["value"]["text"])["name"] == "a"
    assert (await ops.get("/ops/dead-letters/999")).status_code == 404
    assert (await ops.get("/ops/dead-letters/nonsense")).status_code == 404


async def test_what_has_happened_to_an_event_is_told_also_when_it_waits_no_longer(
    bench: Bench, ops: httpx2.AsyncClient
) -> None:
    (event,) = await bench.bury("a")
    path = f"/ops/dead-letters/{event.event_id}"
    await ops.post(f"{path}/discard", json={"reason": "r", "confirmed": True})

    assert (await ops.get(path)).status_code == 404
    assert [each["moment"] for each in (await ops.get(f"{path}/history")).json()] == ["dead", "discarded"]
    assert (await ops.get(f"/ops/dead-letters/{event.position}/history")).status_code == 200
    assert (await ops.get("/ops/dead-letters/999/history")).status_code == 404


async def test_a_group_keeps_the_note_of_whoever_knows(bench: Bench, ops: httpx2.AsyncClient) -> None:
    await bench.bury("a", "b")
    (group,) = (await ops.get("/ops/dead-letter-groups")).json()
    path = f"/ops/dead-letter-groups/{group['fingerprint']}/note"
    noted = (await ops.put(path, json={"note": "a bad release"})).json()
    (after,) = (await ops.get("/ops/dead-letter-groups")).json()
    (act,) = (await ops.get("/ops/actions")).json()

    assert (group["count"], group["keys"], group["note"]) == (2, 2, "")
    assert noted["note"] == after["note"] == "a bad release"
    assert (act["who"], act["action"]) == (SHE, "note")
    assert (await ops.put("/ops/dead-letter-groups/none/note", json={"note": "x"})).status_code == 404


async def test_a_rehearsal_tells_what_would_change_and_changes_nothing(bench: Bench, ops: httpx2.AsyncClient) -> None:
    await bench.bury("a", amount=3)
    before = bench.checksum()
    (told,) = (await ops.post("/ops/rehearsals", json={"filter": {}})).json()

    assert (told["key"], told["verdict"]) == ("a", "succeeds")
    assert told["rows"][0]["after"]["total"] == 3
    assert bench.checksum() == before


async def test_a_replay_is_begun_followed_and_listed(bench: Bench, ops: httpx2.AsyncClient) -> None:
    await bench.bury("a", "b")
    begun = await ops.post("/ops/replays", json=ALL)
    path = f"/ops/replays/{begun.json()['number']}"

    async def done() -> Any:
        replay = (await ops.get(path)).json()
        return replay if replay["state"] == "done" else None

    async with bench.started():
        ended = await eventually(done)

    assert begun.status_code == 201
    assert (ended["progress"]["succeeded"], ended["who"]) == (2, SHE)
    assert [each["number"] for each in (await ops.get("/ops/replays")).json()] == [ended["number"]]
    assert await names(ops, state="all") == []
    assert (await ops.post("/ops/replays", json=ALL)).status_code == 409
    assert (await ops.get("/ops/replays/999")).status_code == 404


async def test_a_replay_is_paused_and_goes_on(bench: Bench, ops: httpx2.AsyncClient) -> None:
    await bench.bury("a")
    number = (await ops.post("/ops/replays", json=ALL)).json()["number"]
    states = [
        (await ops.post(f"/ops/replays/{number}/{verb}", json={})) for verb in ("pause", "pause", "resume", "resume")
    ]

    assert [each.status_code for each in states] == [200, 409, 200, 409]
    assert [each.json().get("state") for each in states] == ["paused", None, "running", None]


async def test_what_an_edit_would_change_is_told_and_an_edit_of_something_else_by_now_is_refused(
    bench: Bench, ops: httpx2.AsyncClient
) -> None:
    [event] = await bench.bury("a")
    path = f"/ops/dead-letters/{event.position}"
    value = {"text": '{"name":"a","amount":5}'}
    told = await ops.post(f"{path}/preview", json=value)
    wrong = await ops.post(f"{path}/preview", json={"text": '{"name":"a","amount":"x"}'})
    other = await ops.put(f"{path}/value", json={**value, "seen": "00000000-0000-7000-8000-000000000000"})
    stored = await ops.put(f"{path}/value", json={**value, "seen": told.json()["event_id"]})

    assert told.json() == {
        "event_id": str(event.event_id),
        "changes": [{"field": "amount", "before": "1", "after": "5"}],
    }
    misfit = "the new payload does not fit its type: /amount: expected a whole number, not a text"
    assert (wrong.status_code, wrong.json()["detail"]) == (422, misfit)
    assert (other.status_code, "look at it again" in other.text) == (422, True)
    assert stored.json()["edited"] is True


async def test_a_value_is_edited_as_text_or_bytes_and_what_came_in_is_kept(
    bench: Bench, ops: httpx2.AsyncClient
) -> None:
    one, other = await bench.bury("a", "b")
    values = [b'{"name":"a","amount":5}', b'{"name":"b","amount":6}']
    edited = [
        await ops.put(f"/ops/dead-letters/{one.position}/value", json={"text": values[0].decode()}),
        await ops.put(f"/ops/dead-letters/{other.position}/value", json={"base64": b64encode(values[1]).decode()}),
    ]
    told = [(await ops.get(f"/ops/dead-letters/{each.position}")).json() for each in (one, other)]

    assert [each.json()["edited"] for each in edited] == [True, True]
    assert [each["value"]["text"].encode() for each in told] == values
    assert [each["original"]["event_id"] for each in told] == [str(one.event_id), str(other.event_id)]
    assert [each["original"]["value"]["text"].encode() for each in told] == [one.record.value, other.record.value]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": FITS, "base64": b64encode(FITS.encode()).decode()},
        {"base64": "%" + b64encode(FITS.encode()).decode()},
        {"text": FITS.replace('"a"', '"other"')},
        {"text": "no"},
    ],
)
async def test_a_value_that_does_not_fit_is_refused(
    body: dict[str, str], bench: Bench, ops: httpx2.AsyncClient
) -> None:
    (event,) = await bench.bury("a")
    answer = await ops.put(f"/ops/dead-letters/{event.position}/value", json=body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_value_of_several_lines_is_looked_at_and_edited(bench: Bench, ops: httpx2.AsyncClient) -> None:
    (event,) = await bench.bury("a")
    path = f"/ops/dead-letters/{event.position}"
    value = {"text": FITS.replace(",", ",\n\t")}

    assert (await ops.post(f"{path}/preview", json=value)).status_code == 200
    assert (await ops.put(f"{path}/value", json=value)).status_code == 200


async def test_an_event_is_discarded_with_a_reason(bench: Bench, ops: httpx2.AsyncClient) -> None:
    (event,) = await bench.bury("a")
    path = f"/ops/dead-letters/{event.event_id}/discard"
    answers = [await ops.post(path, json=body) for body in ({}, {"reason": " "}, {"reason": "a test"})]

    assert [each.status_code for each in answers] == [422, 428, 200]
    assert await names(ops, state="all") == []
    assert (await ops.post(path, json={"reason": "again"})).status_code == 404


async def test_a_reproduction_has_the_record_and_the_rows(bench: Bench, ops: httpx2.AsyncClient) -> None:
    await bench.processor().admit("counter", [bench.world.read(bench.counted("a", 7))])
    (event,) = await bench.bury("a")
    told = (await ops.get(f"/ops/dead-letters/{event.position}/reproduction")).json()

    assert told["record_key"]["text"] == "a"
    assert [row["values"]["total"] for row in told["rows"]] == [7]
    assert told["rows"][0]["type"].endswith(":Tally")


async def test_acts_on_a_careful_service_are_confirmed_and_looking_is_free() -> None:
    bench = Bench(confirm="it moves money")
    (event,) = await bench.bury("a")
    one = f"/ops/dead-letters/{event.position}"
    async with asking(bench) as ops:
        refused = [
            await ops.post("/ops/replays", json=ALL),
            await ops.post("/ops/replays", json={**ALL, "confirmed": True}),
            await ops.put(f"{one}/value", json={"text": '{"name":"a","amount":5}'}),
            await ops.post(f"{one}/discard", json={"reason": "why"}),
        ]
        looked = [await ops.get("/ops/dead-letters"), await ops.get(one)]
        rehearsed = await ops.post("/ops/rehearsals", json={"filter": {}})
        meant = await ops.post("/ops/replays", json={**ALL, "confirmed": True, "reason": "mended"})

    assert [each.status_code for each in refused] == [428] * 4
    assert all("it moves money" in each.json()["detail"] for each in refused)
    assert [each.json()["confirm"] for each in looked] == ["it moves money"] * 2
    assert (rehearsed.status_code, meant.status_code) == (200, 201)


async def test_who_acted_is_who_proved_it_and_not_who_is_said_to(bench: Bench, ops: httpx2.AsyncClient) -> None:
    one, other = await bench.bury("a", "b")
    await ops.post(f"/ops/dead-letters/{one.position}/discard", json={"reason": "x"})
    ops.headers.pop("x-orderflow-operator")
    await ops.post(f"/ops/dead-letters/{other.position}/discard", json={"reason": "x"})

    assert [each["who"] for each in (await ops.get("/ops/actions")).json()] == ["ada", SHE]


def test_every_operation_stands_in_the_openapi_document(bench: Bench) -> None:
    listed = operations(bench)
    paths = build_openapi("Test", "1.0", listed)["paths"]

    assert {(each.path, each.method.lower()) for each in listed} == {
        (path, method) for path, described in paths.items() for method in described
    }


async def test_records_that_expired_unread_are_told_until_somebody_acknowledges_them(
    bench: Bench, ops: httpx2.AsyncClient
) -> None:
    await bench.recovery.store.note_expired([Expired("counter", "counts", 3, 10, 100)])

    (lost,) = (await ops.get("/ops/expired")).json()
    assert (lost["consumer"], lost["topic"], lost["partition"], lost["count"]) == ("counter", "counts", 3, 90)
    path = "/ops/expired/counter/acknowledge"
    assert (await ops.post(path, json={})).status_code == 422
    assert (await ops.post("/ops/expired/nobody/acknowledge", json={"reason": "x"})).status_code == 404
    assert (await ops.post(path, json={"reason": "republished"})).json() == {"consumer": "counter", "records": 90}
    assert (await ops.get("/ops/expired")).json() == []
    (action, *_) = (await ops.get("/ops/actions")).json()
    assert (action["who"], action["action"], action["reason"]) == (SHE, "acknowledge", "republished")


async def test_an_outage_is_listed_and_overruled(bench: Bench, ops: httpx2.AsyncClient) -> None:
    bench.world.moods.broken.add("toy.Counted")
    async with bench.started():
        await bench.publish(*(bench.counted(f"k{n}", 1) for n in range(20)))
        await eventually(lambda: bench.engine.health().problems)
        listed = (await ops.get("/ops/outages")).json()
        asked = {"consumer": "counter", "event_type": "Counted", "verdict": "poison", "reason": "a bad producer"}
        said = await ops.post("/ops/outages", json=asked)
        after = (await ops.get("/ops/outages")).json()["outages"]

    assert listed["consumers"] == ["counter"]
    assert [(each["event_type"], each["state"], each["failing"]) for each in listed["outages"]] == [
        ("toy.Counted.v1", "outage", 20)
    ]
    assert (said.status_code, said.json()["overruled"]["who"]) == (200, SHE)
    assert [(each["state"] != "outage", each["overruled"]["reason"]) for each in after] == [(True, "a bad producer")]
    assert (await ops.get("/ops/actions")).json()[0]["action"] == "overrule"


@pytest.mark.parametrize(
    ("changed", "status"),
    [({"consumer": "no"}, 422), ({"event_type": "no"}, 422), ({"verdict": "no"}, 422), ({"reason": ""}, 428)],
)
async def test_a_word_against_a_judgement_must_make_sense(
    ops: httpx2.AsyncClient, changed: dict[str, str], status: int
) -> None:
    asked = {"consumer": "counter", "event_type": "Counted", "verdict": "poison", "reason": "why", **changed}

    assert (await ops.post("/ops/outages", json=asked)).status_code == status
