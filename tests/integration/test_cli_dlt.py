"""`orderflow dlt` and `orderflow health` against a whole running system, with events that really fail."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from orderflow.cli.session import as_running
from orderflow.core.failures import FAILING_KEYS_MIN
from orderflow.core.transport import ProducerRecord
from orderflow.registry import SAGA
from orderflow.settings import Settings
from tests.support.callers import shown
from tests.support.command_line import System, running
from tests.support.waiting import eventually

FAILED = {"customer_id": "ada", "currency": "EUR", "total": "many", "reason": "card_declined"}
PLACED = {**FAILED, "items": [], "payment_method": "pm_card_visa"}
NO_LETTERS = "No dead letters.\n"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("dlt") / "home", "--game-day", attempts_max=2) as system:
        yield system


async def poison(system: System, topic: str, event_type: str, payload: dict[str, Any], key: str = "") -> str:
    """Append an event that some consumer cannot handle; its key, which is the order's id."""
    key = key or str(uuid4())
    value = json.dumps({**payload, "order_id": key}).encode()
    attributes = {"specversion": "1.0", "id": str(uuid4()), "type": event_type, "source": "/test", "subject": key}
    headers = tuple((f"ce_{name}", said.encode()) for name, said in attributes.items())
    await system.append(ProducerRecord(topic, key.encode(), value, headers))
    return key


async def dead(system: System, key: str, count: int) -> dict[str, dict[str, Any]]:
    """The dead letters of an order by service, once there are so many."""

    async def found() -> list[Any]:
        letters = (await asyncio.to_thread(system.ask, "dlt", "list", "--order", key))["dead_letters"]
        return list(letters) if len(letters) == count else []

    return {letter["service"]: letter for letter in await eventually(found, timeout_s=60)}


def document(done: subprocess.CompletedProcess[str], code: int) -> Any:
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)


async def test_a_poison_event_is_seen_rehearsed_mended_replayed_and_gone(system: System) -> None:
    key = await poison(system, "payment-status", "orderflow.PaymentFailed.v1", FAILED)
    letters = await dead(system, key, 2)
    event, group = letters["order"]["event_id"], letters["order"]["fingerprint"]

    system.ask("dlt", "note", group, "totals as text")
    groups = system.ask("dlt", "groups")["groups"]
    shown = system.ask("dlt", "show", event)["letters"]
    refused = document(system.call("dlt", "rehearse", event, "--json"), 1)["rehearsed"]
    edited = system.ask("dlt", "edit", event, "--service", "notification", "--set", "total=1250", "--yes")["edited"][
        0
    ]
    rehearsed = system.ask("dlt", "rehearse", edited["event_id"])["rehearsed"]
    replayed = system.ask("dlt", "replay", edited["event_id"])["replays"][0]

    assert set(letters) == {"order", "notification"}
    assert {each["service"]: each["note"] for each in groups} == dict.fromkeys(letters, "totals as text")
    assert [each["history"][0]["moment"] for each in shown] == ["dead", "dead"]
    assert [each["verdict"] for each in refused] == ["fails", "fails"]
    assert [(each["verdict"], each["rows"][0]["table"]) for each in rehearsed] == [("succeeds", "notifications")]
    assert (replayed["state"], replayed["progress"]["succeeded"]) == ("done", 1)
    assert set(await dead(system, key, 1)) == {"order"}

    system.ask("dlt", "discard", event, "--reason", "no such order")
    acts = {(each["service"], each["action"], each["reason"]) for each in system.ask("dlt", "log")["actions"]}

    assert {("order", "discard", "no such order"), ("notification", "edit", "")} <= acts
    (act,) = [each for each in system.ask("dlt", "log")["actions"] if each["action"] == "edit"]
    assert act["result"] == f'It is {edited["event_id"]} now. total: "many" → 1250'
    assert edited["changes"] == [{"field": "total", "before": '"many"', "after": "1250"}]
    assert system.call("dlt", "list").stdout == NO_LETTERS
    assert system.call("health").returncode == 0


async def test_an_order_completes_once_what_its_event_failed_by_is_mended(system: System) -> None:
    match = ("--event", "PaymentSucceeded", "--match", "total=1301", "--error", "permanent")
    system.ask("fault", "add", "inventory", *match)
    order = system.ask("order", "place", "--item", "SKU-ESPRESSO-CUP:1:1301")
    letter = (await dead(system, order["id"], 1))["inventory"]
    event = letter["event_id"]
    stuck = system.ask("order", "show", order["id"])
    health = document(system.call("health", "--json"), 1)["services"]["inventory"]
    failing = document(system.call("dlt", "rehearse", event, "--json"), 1)["rehearsed"]
    system.ask("fault", "clear", "--all")
    (rehearsed,) = system.ask("dlt", "rehearse", "--group", letter["fingerprint"])["rehearsed"]
    before = system.ask("order", "show", order["id"])
    replayed = system.call("dlt", "replay", "--group", letter["fingerprint"], "--canary")
    ended = watched(system, order["id"])

    assert stuck["status"] == before["status"] == "PAID"
    assert stuck["stuck"]["inventory"]["state"] == "dead"
    assert (len(health["faults"]), health["stuck"][0]["dead"]) == (1, 1)
    assert [each["verdict"] for each in failing] == ["fails"]
    assert rehearsed["verdict"] == "succeeds"
    assert [each["type"] for each in rehearsed["events"]] == ["orderflow.StockReserved.v1"]
    assert replayed.returncode == 0, replayed.stderr
    assert "inventory-" in replayed.stdout
    assert ended == "COMPLETED"
    assert system.call("dlt", "list").stdout == NO_LETTERS


async def test_many_orders_that_fail_alike_are_an_outage_of_which_nothing_is_given_up(system: System) -> None:
    system.ask("fault", "add", "payment", "--event", "OrderPlaced", "--match", "currency=CHF", "--error", "permanent")
    ids = await place(system, 20)

    async def judged() -> str:
        found = document(await asyncio.to_thread(system.call, "health", "--json"), 1)
        return str(found["services"]["payment"]["problems"].get("consumer payment", ""))

    problem = await eventually(judged, timeout_s=60)
    read = system.call("health").stdout
    waiting = system.ask("dlt", "list", "--state", "all")["dead_letters"]
    [outage] = document(system.call("outage", "list", "--json"), 1)["outages"]
    said = system.ask(
        "outage", "overrule", "payment", "OrderPlaced", "--as", "outage", "--reason", "rolled back soon"
    )
    acts = system.ask("dlt", "log", "--service", "payment")["actions"]
    told = document(await asyncio.to_thread(system.call, "health", "--json"), 1)["services"]["payment"]["problems"]
    system.ask("fault", "clear", "--all")
    if system.ask("dlt", "list")["dead_letters"]:
        system.ask("dlt", "replay", "--all", "--yes", "--reason", "they came before the others")
    ended = [watched(system, order) for order in ids[::5]]

    async def well() -> bool:
        return (await asyncio.to_thread(system.call, "health")).returncode == 0

    await eventually(well, timeout_s=60)
    system.ask("outage", "overrule", "payment", "OrderPlaced", "--as", "poison", "--reason", "rolled back")

    assert "orderflow.OrderPlaced.v1" in problem
    assert "keys failed alike" in problem
    assert "keys failed alike" in read
    assert len(waiting) < FAILING_KEYS_MIN, "only what came before there were enough to judge by"
    assert (outage["service"], outage["consumer"], outage["state"]) == ("payment", "payment", "outage")
    assert (said["service"], said["overruled"]["verdict"]) == ("payment", "outage")
    assert (acts[0]["action"], acts[0]["target"]) == ("overrule", "payment orderflow.OrderPlaced.v1")
    assert acts[0]["reason"] == "rolled back soon"
    assert "an operator declared it an outage" in told["consumer payment"]
    assert ended == ["COMPLETED"] * 4


async def place(system: System, count: int) -> list[str]:
    """So many orders at once."""
    url = as_running(Settings.load(environ=system.environment)).service_url("order")
    items = [{"sku": "SKU-ESPRESSO-CUP", "quantity": 1, "unit_price": 100}]
    order = {"customer_id": "crowd", "currency": "CHF", "items": items, "payment_method": "pm_card_visa"}
    async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        answers = await asyncio.gather(*(client.post("/orders", json=order) for _ in range(count)))
    return [answer.json()["id"] for answer in answers]


def watched(system: System, order: str) -> str:
    """How an order has ended."""
    system.lines("order", "watch", order, "--timeout", "60")
    return str(system.ask("order", "show", order)["status"])


async def test_what_came_in_is_kept_beside_an_edited_value(system: System) -> None:
    key = await poison(system, "payment-status", "orderflow.PaymentFailed.v1", FAILED)
    letter = (await dead(system, key, 2))["notification"]
    mended = system.home / "mended.json"
    mended.write_text(json.dumps({**FAILED, "total": 5, "order_id": key}))
    edited = system.ask(
        "dlt", "edit", letter["event_id"], "--service", "notification", "--value", str(mended), "--yes"
    )
    shown = system.ask("dlt", "show", edited["edited"][0]["event_id"])["letters"][0]
    wrong = system.call("dlt", "edit", letter["event_id"], "--service", "order", "--set", "total=five")

    assert json.loads(shown["value"]["text"])["total"] == 5
    assert json.loads(shown["original"]["value"]["text"])["total"] == "many"
    assert shown["original"]["event_id"] == letter["event_id"]
    assert wrong.returncode == 5
    assert "does not fit its type" in wrong.stderr

    for event, service in ((shown["letter"]["event_id"], "notification"), (letter["event_id"], "order")):
        system.ask("dlt", "discard", event, "--service", service, "--reason", "a test")
    assert system.call("dlt", "list").stdout == NO_LETTERS


async def test_the_test_that_is_written_fails_as_the_event_did(system: System, tmp_path: Path) -> None:
    order = system.ask("order", "place", "--wait", "60")
    written_as = system.ask("payment", "show", order["id"])["customer_id"]
    late = {**FAILED, "customer_id": written_as, "total": order["total"]}
    await poison(system, "payment-status", "orderflow.PaymentFailed.v1", late, order["id"])
    letters = await dead(system, order["id"], 2)
    letter = letters["order"]
    file = tmp_path / "test_late.py"
    which = (letter["event_id"], "--service", "order")
    written = system.ask("dlt", "pytest", *which, "--output", str(file))
    again = system.call("dlt", "pytest", *which, "--output", str(file))
    tried = run_pytest(file)
    rehearsed = document(system.call("dlt", "rehearse", *which, "--json"), 1)["rehearsed"]
    shown = system.call("dlt", "show", letter["event_id"]).stdout

    assert (letter["attempts"], letter["error"]) == (1, "IllegalTransitionError")
    assert letters["notification"]["error"] == "DataRefusedError", "the customer was told that it is complete"
    assert written["fails"] is True
    assert letter["error"] in written["failure"]
    assert again.returncode == 1
    assert "--force" in again.stderr
    assert tried.returncode == 1, tried.stdout
    assert letter["error"] in tried.stdout
    assert [each["verdict"] for each in rehearsed] == ["illegal"]
    assert f"{order['id']} is COMPLETED" in shown

    file.write_text(file.read_text().replace("'COMPLETED'", "'PENDING'"))
    assert run_pytest(file).returncode == 0, "with other rows it passes: the rows are what makes it fail"

    system.ask("dlt", "discard", letter["event_id"], "--reason", "it was paid")
    assert system.call("dlt", "list").stdout == NO_LETTERS


def run_pytest(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
        capture_output=True,
        text=True,
        cwd=file.parent,
    )


async def test_what_moves_money_is_confirmed_and_says_why(system: System) -> None:
    key = await poison(system, "order-events", "orderflow.OrderPlaced.v1", PLACED)
    letter = (await dead(system, key, 1))["payment"]
    event = letter["event_id"]
    calls = (
        ("replay", event),
        ("replay", "--all", "--yes"),
        ("edit", event, "--set", "total=1"),
        ("discard", event, "--reason", "test"),
    )
    refused = [system.call("dlt", *call) for call in calls]
    url = as_running(Settings.load(environ=system.environment)).service_ops_url("payment")
    shows = shown(system.token())
    async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        path = f"/ops/dead-letters/{event}/discard"
        direct = await client.post(path, json={"reason": "x"}, headers=shows)
        nobody = await client.post(path, json={"reason": "x"})

    assert [done.returncode for done in refused] == [5] * len(calls)
    assert all("--yes --reason TEXT" in done.stderr and "money" in done.stderr for done in refused)
    assert (direct.status_code, nobody.status_code) == (428, 401)
    assert system.ask("dlt", "replays", "--service", "payment")["replays"] == []
    assert set(await dead(system, key, 1)) == {"payment"}

    system.ask("dlt", "discard", event, "--yes", "--reason", "a test order")
    assert system.ask("dlt", "log", "--service", "payment")["actions"][0]["reason"] == "a test order"
    assert system.call("dlt", "list").stdout == NO_LETTERS


async def test_a_release_is_checked_against_what_waits(system: System) -> None:
    key = await poison(system, "payment-status", "orderflow.PaymentFailed.v1", FAILED)
    event = (await dead(system, key, 2))["order"]["event_id"]
    behind = await poison(system, "payment-status", "orderflow.PaymentRefunded.v1", FAILED, key)

    async def held() -> list[Any]:
        found = await asyncio.to_thread(system.ask, "dlt", "list", "--order", behind, "--state", "held")
        return list(found["dead_letters"]) if len(found["dead_letters"]) == 2 else []

    followers = await eventually(held, timeout_s=60)
    checked = document(system.call("dlt", "check", "--json"), 1)
    strict = document(system.call("dlt", "check", "--strict", "--json"), 1)
    shown = system.ask("dlt", "show", event, "--service", "order")["letters"][0]

    assert {each["event_type"] for each in followers} == {"orderflow.PaymentRefunded.v1"}
    assert {each["event_type"] for each in checked["unreadable"]} == {"orderflow.PaymentRefunded.v1"}
    assert {each["service"] for each in checked["unreadable"]} == {"order", "notification"}
    assert len(strict["unreadable"]) == 4
    assert shown["letter"]["behind"] == 1
    assert shown["followers"][0]["event_type"] == "orderflow.PaymentRefunded.v1"

    system.ask("dlt", "discard", event, followers[0]["event_id"], "--reason", "a test")
    assert system.call("dlt", "check", "--strict").returncode == 0
    assert system.call("dlt", "list", "--state", "all").stdout == "No matching events.\n"


async def test_what_waits_is_counted_alike_wherever_it_is_told(system: System) -> None:
    """Three records of unknown content, one of them of a key that is no order's id, and one behind the first."""
    keys = [str(uuid4()), str(uuid4()), "not an order"]
    garbage = [ProducerRecord("payment-status", key.encode(), b"garbage") for key in keys]
    await system.append(*garbage)
    await dead(system, keys[0], 3)
    await poison(system, "payment-status", "orderflow.PaymentFailed.v1", FAILED, keys[0])
    expected = {"dead": 9, "retrying": 0, "held": 2}

    async def listed() -> bool:
        letters = (await asyncio.to_thread(system.ask, "dlt", "list", "--state", "all"))["dead_letters"]
        return dict(Counter(letter["state"] for letter in letters)) == {"dead": 9, "held": 2}

    await eventually(listed, timeout_s=60)
    metrics = await asyncio.to_thread(scrape, system)
    scraped = {
        name: sum(map(float, re.findall(rf"^orderflow_stuck_{name}{{.*}} (.*)$", metrics, re.MULTILINE)))
        for name in expected
    }
    audited = json.loads(system.call("audit", "--json", "--wait", "30").stdout)

    assert scraped == expected
    assert audited["waiting"] == expected
    assert audited["stuck"] == 2
    assert document(system.call("health", "--json"), 1)["waiting"] == expected
    assert document(system.call("dlt", "check", "--json"), 1)["waiting"] == expected
    assert system.ask("dlt", "list")["waiting"] == expected
    for command in (("health",), ("audit",), ("dlt", "check"), ("dlt", "list")):
        assert "9 dead, 0 retrying, 2 held" in system.call(*command).stdout

    event = (await dead(system, keys[0], 3))["order"]["event_id"]
    assert len(system.ask("dlt", "show", event[-8:])["letters"]) == 3
    system.ask("dlt", "discard", "--all", "--reason", "a test")
    told = system.call("dlt", "show", event[-8:]).stdout
    assert told.count("discarded it at") == 3
    assert "a test" in told
    await eventually(lambda: _nothing_waits(system), timeout_s=60)


def scrape(system: System) -> str:
    settings = as_running(Settings.load(environ=system.environment))
    return "".join(httpx2.get(f"{settings.service_ops_url(name)}/metrics", timeout=60).text for name in SAGA)


async def _nothing_waits(system: System) -> bool:
    waiting = (await asyncio.to_thread(system.ask, "dlt", "list"))["waiting"]
    if waiting["dead"]:
        await asyncio.to_thread(system.ask, "dlt", "discard", "--all", "--reason", "a test")
    return not any(waiting.values())


async def test_a_canary_stops_and_a_replay_is_held_by_ctrl_c_and_goes_on(system: System) -> None:
    keys = [await poison(system, "payment-status", "orderflow.PaymentFailed.v1", FAILED) for _ in range(4)]
    letters = [(await dead(system, key, 2))["notification"] for key in keys]
    group = letters[0]["fingerprint"]
    where = ("--group", group, "--service", "notification")

    canary = document(system.call("dlt", "replay", *where, "--canary", "--json"), 1)["replays"][0]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orderflow", "dlt", "replay", *where, "--rate", "0.2", "--max-failing", "100%"),
        env=system.environment,
        stderr=asyncio.subprocess.PIPE,
    )

    async def begun() -> bool:
        latest = (await asyncio.to_thread(system.ask, "dlt", "replays", "--service", "notification"))["replays"][0]
        return bool(latest["number"] > canary["number"] and latest["progress"]["failed_again"])

    await eventually(begun, timeout_s=60)
    process.send_signal(signal.SIGINT)
    _, complaints = await asyncio.wait_for(process.communicate(), 60)
    held = system.ask("dlt", "replays", "--service", "notification")["replays"][0]
    resumed = document(system.call("dlt", "resume", held["replay"], "--json"), 1)["replays"][0]

    assert (canary["state"], canary["progress"]["failed_again"]) == ("stopped", 1)
    assert canary["progress"]["waiting"] == 3
    assert process.returncode == 130
    assert f"orderflow dlt resume {held['replay']}" in complaints.decode()
    assert (held["state"], held["progress"]["waiting"] > 0) == ("paused", True)
    assert (resumed["state"], resumed["progress"]["failed_again"]) == ("done", 4)

    system.ask("dlt", "discard", *(letter["event_id"] for letter in letters), "--reason", "a test")
    assert system.call("dlt", "list").stdout == NO_LETTERS


async def test_a_replay_is_steered_from_anywhere(system: System) -> None:
    keys = [await poison(system, "payment-status", "orderflow.PaymentFailed.v1", FAILED) for _ in range(3)]
    events = [(await dead(system, key, 2))["notification"]["event_id"] for key in keys]
    slowly = ("--rate", "0.2", "--max-failing", "1", "--detach", "--service", "notification")
    (begun,) = system.ask("dlt", "replay", *events, *slowly)["replays"]
    held = system.ask("dlt", "pause", begun["replay"], "--reason", "lunch")
    again = system.call("dlt", "pause", begun["replay"])
    resumed = system.ask("dlt", "resume", begun["replay"], "--detach")["replays"][0]

    async def done() -> bool:
        found = (await asyncio.to_thread(system.ask, "dlt", "replays"))["replays"]
        return any(each["replay"] == begun["replay"] and each["state"] == "done" for each in found)

    await eventually(done, timeout_s=60)

    assert (begun["state"], held["state"], resumed["state"]) == ("running", "paused", "running")
    assert "lunch" in held["why"]
    assert again.returncode == 5
    assert "nothing to pause" in again.stderr

    system.ask("dlt", "discard", *events, "--reason", "a test")
    assert system.call("dlt", "list").stdout == NO_LETTERS


async def test_health_tells_of_dead_letters_and_of_services_that_are_away(system: System) -> None:
    key = await poison(system, "payment-status", "orderflow.PaymentFailed.v1", FAILED)
    event = (await dead(system, key, 2))["order"]["event_id"]
    found = document(system.call("health", "--json"), 1)
    read = system.call("health")
    away = document(system.call("health", "--json", ORDERFLOW_INVENTORY_URL="http://127.0.0.1:9"), 1)

    assert [name for name, each in found["services"].items() if each["stuck"]] == ["order", "notification"]
    assert all(each["ready"] for each in found["services"].values())
    assert "1 dead" in read.stdout
    assert list(away["unreachable"]) == ["inventory"]

    system.ask("dlt", "discard", event, "--reason", "a test")
    assert document(system.call("health", "--json"), 0)["healthy"] is True


async def test_an_order_cannot_be_made_cheaper_by_an_edit(system: System) -> None:
    """A dead OrderPlaced is edited to 1 cent: payment would take it on trust, and the order refuse the payment."""
    match = ("--event", "OrderPlaced", "--match", "total=10000000", "--error", "permanent")
    system.ask("fault", "add", "payment", *match)
    order = system.ask("order", "place", "--customer", "cheap", "--item", "SKU-MILK-JUG:1:10000000")
    event = (await dead(system, order["id"], 1))["payment"]["event_id"]
    system.ask("fault", "clear", "--all")
    meant = ("--yes", "--reason", "a test")
    for wrong in (("total=1",), ("total=9000000000000",), ("currency=XXX",), ("items=[]",)):
        settings = [word for each in wrong for word in ("--set", each)]
        refused = system.call("dlt", "edit", event, *settings, *meant)
        assert (refused.returncode, "does not fit its type" in refused.stderr) == (5, True), refused.stderr
    cheap = system.call("dlt", "edit", event, "--set", "items.0.unit_price=1", "--set", "total=1", *meant)
    another_card = ("--set", "payment_method=pm_card_mastercard")
    unasked = system.call("dlt", "edit", event, *another_card, "--reason", "a test")
    edited = system.ask("dlt", "edit", event, *another_card, *meant)["edited"][0]
    system.ask("dlt", "replay", edited["event_id"], *meant)

    async def ended() -> Any:
        stands = await asyncio.to_thread(system.ask, "order", "show", order["id"])
        return stands if stands["status"] != "PENDING" else None

    stands = await eventually(ended, timeout_s=60)
    assert (
        cheap.returncode,
        "An edit cannot change items, total: payment takes it on trust" in cheap.stderr,
    ) == (
        5,
        True,
    ), cheap.stderr
    assert unasked.returncode == 5
    assert "Nothing was stored" in unasked.stderr
    assert [each["field"] for each in edited["changes"]] == ["payment_method"]
    assert (stands["total"], stands["reason"]) == (10000000, None)
