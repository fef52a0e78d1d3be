"""`orderflow dlt`: what is asked of the services, and what is shown of their answers."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from shlex import join
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.shop import Says
from tests.unit.cli.calls import ORDER_ID
from tests.unit.cli.fleet import fleet
from tests.unit.cli.orders import order, problem
from tests.unit.cli.reproductions import REPRODUCTION, changed_row

HOSTILE = "[red]\x1b[31m" + "x" * 200
LETTER: dict[str, Any] = {
    "position": 3,
    "consumer": "payment",
    "key": ORDER_ID,
    "event_id": ORDER_ID,
    "event_type": "orderflow.OrderPlaced.v1",
    "state": "dead",
    "attempts": 6,
    "replays": 1,
    "behind": 2,
    "edited": False,
    "kind": "unknown",
    "error": "ZeroDivisionError",
    "message": HOSTILE,
    "fingerprint": "abc",
    "topic": "order-events",
    "partition": 1,
    "offset": 9,
    "parked_at": "2026-01-02T03:04:05Z",
    "first_failed_at": "2026-01-02T03:04:05Z",
    "last_failed_at": "2026-01-02T03:05:05Z",
    "next_attempt_at": "2026-01-02T03:05:05Z",
}
FOLLOWER = {
    "position": 4,
    "event_id": "f0110113-0000-4000-8000-000000000001",
    "event_type": "orderflow.StockRejected.v1",
    "state": "held",
    "parked_at": "2026-01-02T03:04:06Z",
}
DETAILS: dict[str, Any] = {
    "letter": LETTER,
    "value": {"text": '{"total": 5}', "base64": None},
    "headers": [
        ["ce_type", {"text": "orderflow.OrderPlaced.v1", "base64": None}],
        ["x", {"text": None, "base64": "/w=="}],
    ],
    "original": {"event_id": None, "value": {"text": "what came in", "base64": None}, "headers": []},
    "history": [
        {"at": "2026-01-02T03:05:05Z", "moment": "dead", "attempt": 6, "error": "E", "message": HOSTILE, "who": ""},
        {"at": "2026-01-02T03:06:05Z", "moment": "replayed", "attempt": 6, "error": "", "message": "", "who": "ada"},
    ],
    "followers": [FOLLOWER],
    "confirm": "",
}
GROUP = {
    "fingerprint": "abc",
    "error": "ZeroDivisionError",
    "message": HOSTILE,
    "count": 12,
    "keys": 11,
    "consumers": ["payment"],
    "event_types": ["orderflow.OrderPlaced.v1"],
    "first_seen": "2026-01-02T03:04:05Z",
    "last_seen": "2026-01-02T03:05:05Z",
    "example": 3,
    "note": "seen \x1b[2J before",
}
ONE = f"/ops/dead-letters/{ORDER_ID}"


def page(*letters: dict[str, Any], confirm: str = "") -> dict[str, Any]:
    return {"dead_letters": list(letters), "next": None, "confirm": confirm}


def replay(state: str = "done", **progress: int) -> dict[str, Any]:
    counts = dict.fromkeys(("waiting", "under_way", "succeeded", "failed_again", "discarded", "gone"), 0)
    return {
        "number": 7,
        "state": state,
        "why": "too many failed again" if state == "stopped" else "",
        "who": "ada@desk",
        "reason": "",
        "plan": {},
        "created_at": "2026-01-02T03:05:00Z",
        "step": 1,
        "progress": {**counts, **progress},
    }


def test_dead_letters_are_listed_with_their_reason_made_harmless(tmp_path: Path) -> None:
    with fleet(tmp_path, payment={"/ops/dead-letters": page(LETTER)}) as services:
        shown = services.call("dlt", "list").stdout
        document = json.loads(services.call("dlt", "list", "--service", "payment", "--json").stdout)

    assert "[red]\\x1b[31m" in shown
    assert "\x1b" not in shown
    assert document["dead_letters"] == [{"service": "payment", **LETTER}]


def test_no_dead_letters_is_said(tmp_path: Path) -> None:
    with fleet(tmp_path) as services:
        assert services.call("dlt", "list").stdout == "No dead letters.\n"
        assert services.call("dlt", "list", "--state", "held").stdout == "No matching events.\n"


def test_the_filters_of_a_list_are_those_that_the_services_know(tmp_path: Path) -> None:
    filters = ("--topic", "t", "--type", "y", "--fingerprint", "f", "--order", "k", "--older-than", "10m")
    with fleet(tmp_path) as services:
        services.call("dlt", "list", *filters, "--state", "retrying", "--service", "order", "--limit", "5")
        asked = parse_qs(urlsplit(services.asked["order"][0].path).query)
        others = [services.asked[name] for name in ("payment", "inventory", "notification")]

    assert asked == {
        "topic": ["t"],
        "type": ["y"],
        "fingerprint": ["f"],
        "key": ["k"],
        "older_than_ms": ["600000"],
        "state": ["retrying"],
        "limit": ["5"],
        "after": ["0"],
    }
    assert others == [[], [], []]


def test_a_dead_letter_is_shown_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    holder = {ONE: DETAILS}
    with fleet(tmp_path, payment=holder, order={**holder, f"/orders/{ORDER_ID}": order(2)}) as services:
        shown = services.call("dlt", "show", ORDER_ID)
        document = json.loads(services.call("dlt", "show", ORDER_ID, "--json").stdout)

    assert shown.exit_code == 0, shown.stderr
    for words in (
        "consumer payment",
        "order-events/1@9",
        '"total": 5',
        "base64 /w==",
        f"{ORDER_ID} is PAID",
        "what came in",
        "replayed",
        "Held behind it: 2 events of this order",
        "orderflow.StockRejected.v1",
    ):
        assert words in shown.stdout
    assert "\x1b" not in shown.stdout
    assert [(each["service"], each["order"]["status"]) for each in document["letters"]] == [
        ("order", "PAID"),
        ("payment", "PAID"),
    ]


def test_an_event_is_shown_while_the_order_service_is_away(tmp_path: Path) -> None:
    with fleet(tmp_path, away="order", payment={ONE: DETAILS}) as services:
        shown = services.call("dlt", "show", ORDER_ID)

    assert shown.exit_code == 3
    assert "consumer payment" in shown.stdout
    assert "order did not answer" in shown.stderr


def test_an_event_that_nobody_holds_is_not_found_only_when_all_were_asked(tmp_path: Path) -> None:
    with fleet(tmp_path) as services:
        assert services.call("dlt", "show", ORDER_ID).exit_code == 4
    with fleet(tmp_path, away="order") as services:
        assert services.call("dlt", "show", ORDER_ID).exit_code == 3


def test_of_an_event_that_waits_no_longer_its_history_is_shown(tmp_path: Path) -> None:
    with fleet(tmp_path, payment={f"{ONE}/history": DETAILS["history"]}) as services:
        shown = services.call("dlt", "show", ORDER_ID)
        document = json.loads(services.call("dlt", "show", ORDER_ID, "--json").stdout)

    assert shown.exit_code == 0, shown.stderr
    assert "It no longer waits at payment" in shown.stdout
    assert "replayed" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert document == {
        "letters": [],
        "past": [{"service": "payment", "history": DETAILS["history"]}],
        "unreachable": {},
    }


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({"moment": "discarded", "who": "bob@desk", "message": HOSTILE}, "bob@desk discarded it at 2026-"),
        ({"moment": "handled", "who": "", "message": ""}, "it was handled at 2026-"),
        ({"moment": "handled", "who": "", "message": ""}, "after ada had replayed it"),
    ],
)
def test_an_event_that_waits_no_longer_says_how_it_ended_when_and_by_whom(
    last: dict[str, str], words: str, tmp_path: Path
) -> None:
    end = {"at": "2026-01-02T03:06:00Z", "attempt": 6, "error": "", **last}
    with fleet(tmp_path, payment={f"{ONE}/history": [*DETAILS["history"], end]}) as services:
        shown = services.call("dlt", "show", ORDER_ID)

    assert words in shown.stdout.replace("\n", " ")
    assert "or discarded" not in shown.stdout
    assert "\x1b" not in shown.stdout


def test_a_position_needs_its_service(tmp_path: Path) -> None:
    with fleet(tmp_path, payment={"/ops/dead-letters/3": DETAILS}) as services:
        assert services.call("dlt", "show", "3").exit_code == 2
        assert services.call("dlt", "show", "3", "--service", "payment").exit_code == 0


def test_a_list_that_may_go_on_says_so(tmp_path: Path) -> None:
    with fleet(tmp_path, payment={"/ops/dead-letters": page(LETTER)}) as services:
        assert "There may be more" in services.call("dlt", "list", "--limit", "1").stdout
        assert "There may be more" not in services.call("dlt", "list").stdout


def test_an_answer_from_outside_has_no_place_in_the_log(tmp_path: Path) -> None:
    answer = {**DETAILS, "letter": {**LETTER, "topic": ""}}
    with fleet(tmp_path, payment={ONE: answer}) as services:
        assert "an answer of the outside world" in services.call("dlt", "show", ORDER_ID).stdout


def test_a_record_that_cannot_be_read_is_called_no_order(tmp_path: Path) -> None:
    unread = {**LETTER, "key": "payment-status/0/0"}
    known = {"/ops/dead-letters": page(LETTER, unread), ONE: {**DETAILS, "letter": unread}}
    with fleet(tmp_path, payment=known) as services:
        listed = services.call("dlt", "list").stdout
        shown = services.call("dlt", "show", ORDER_ID).stdout

    assert f"order {LETTER['key']}" in listed
    assert "record payment-status/0/0" in listed
    assert "order payment-status/0/0" not in listed
    assert "key:          payment-status/0/0" in shown


def test_groups_are_shown_harmless_and_a_note_goes_to_those_that_have_it(tmp_path: Path) -> None:
    known = {"/ops/dead-letter-groups": [GROUP], "PUT /ops/dead-letter-groups/abc/note": GROUP}
    with fleet(tmp_path, payment=known) as services:
        shown = services.call("dlt", "groups").stdout
        noted = services.call("dlt", "note", "abc", "a bad release")
        unknown = services.call("dlt", "note", "a/b", "a bad release")
        put = services.asked["payment"][-2]

    assert "12 events of 11 keys" in shown
    assert "orderflow dlt show 3 --service payment" in shown
    assert "seen \\x1b[2J before" in shown
    assert "\x1b" not in shown
    assert (noted.exit_code, noted.stdout) == (0, "Noted at payment.\n")
    assert put.body == {"note": "a bad release"}
    assert "@" in put.headers["x-orderflow-operator"]
    assert unknown.exit_code == 4


def test_what_came_from_outside_fills_no_screen(tmp_path: Path) -> None:
    long = "x" * 1_000_000
    letter = {**LETTER, "key": long, "event_type": long}
    said = {"text": long, "base64": None}
    details = {**DETAILS, "letter": letter, "value": said, "headers": [[long, said]]}
    group = {**GROUP, "count": 1, "keys": 1, "event_types": [long, "", "c", "d", "e"]}
    known = {"/ops/dead-letters": page(letter), "/ops/dead-letter-groups": [group], ONE: details}
    with fleet(tmp_path, payment=known) as services:
        listed, groups, one = [
            services.call("dlt", *words).stdout for words in (("list",), ("groups",), ("show", ORDER_ID))
        ]
        whole = json.loads(services.call("dlt", "show", ORDER_ID, "--json").stdout)["letters"][0]

    assert max(len(listed), len(groups)) < 2_000
    assert len(one) < 20_000
    assert "and 990000 more characters; all of it: orderflow dlt show --json" in one
    assert "1 event of 1 key " in groups
    assert "..., (no type), c and 2 more" in groups
    assert whole["value"]["text"] == long


@pytest.mark.parametrize("command", ["rehearse", "replay", "discard --reason x"])
@pytest.mark.parametrize("words", [(), (ORDER_ID, "--all"), ("--group", "abc", "--all"), ("3",), ("nonsense",)])
def test_which_events_are_meant_is_said_in_one_way(command: str, words: tuple[str, ...], tmp_path: Path) -> None:
    with fleet(tmp_path) as services:
        assert services.call("dlt", *command.split(), *words).exit_code == 2


def test_a_rehearsal_shows_verdicts_changes_and_events_made_harmless(tmp_path: Path) -> None:
    told = {
        "position": 3,
        "consumer": "payment",
        "key": ORDER_ID,
        "event_id": ORDER_ID,
        "event_type": "orderflow.OrderPlaced.v1",
        "verdict": "succeeds",
        "error": "",
        "message": "",
        "rows": [{"table": "payments", "id": 1, "before": {"status": "A\x1b"}, "after": {"status": "B"}}],
        "events": [{"type": "orderflow.PaymentSucceeded.v1", "topic": "payment-status", "payload": {}}],
        "intents": ["charge:1"],
    }
    fails = {**told, "position": 4, "verdict": "fails", "error": "E", "message": HOSTILE}
    known = {"/ops/dead-letters": page(LETTER, LETTER), "POST /ops/rehearsals": [told, fails]}
    with fleet(tmp_path, payment=known) as services:
        shown = services.call("dlt", "rehearse", "--group", "abc")
        asked = [each.body for each in services.asked["payment"] if each.method == "POST"]
        first = services.call("dlt", "rehearse", "--all", "--limit", "1")

    assert shown.exit_code == 1
    assert "There are more" in first.stdout
    assert "There are more" not in shown.stdout
    assert asked == [{"filter": {"fingerprint": "abc"}, "limit": 100}]
    for words in ("payments: status A\\x1b -> B", "orderflow.PaymentSucceeded.v1 on payment-status", "1 succeeds"):
        assert words in shown.stdout
    assert "asks for charge:1" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_a_rehearsal_of_what_some_services_have_names_those_that_could_not_be_asked(tmp_path: Path) -> None:
    known = {"/ops/dead-letters": page(LETTER), "POST /ops/rehearsals": []}
    with fleet(tmp_path, away="inventory", payment=known) as services:
        shown = services.call("dlt", "rehearse", "--all")
        document = json.loads(services.call("dlt", "rehearse", "--all", "--json").stdout)

    assert shown.exit_code == 3
    assert "inventory did not answer" in shown.stderr
    assert list(document["unreachable"]) == ["inventory"]


@pytest.mark.parametrize(
    "selection", [("--all",), ("--group", "a b"), ("--all", "--service", "payment"), (ORDER_ID,)]
)
def test_what_is_to_be_confirmed_can_be_rehearsed_first_as_it_was_chosen(
    selection: tuple[str, ...], tmp_path: Path
) -> None:
    why = "it moves money"
    known = {"/ops/dead-letters": page(LETTER, confirm=why), ONE: {**DETAILS, "confirm": why}}
    with fleet(tmp_path, payment=known) as services:
        replayed = services.call("dlt", "replay", *selection)
        discarded = services.call("dlt", "discard", *selection, "--reason", "noise")

    for refused in (replayed, discarded):
        assert refused.exit_code == 5
        assert refused.stderr.endswith(f"what a replay would do: orderflow dlt rehearse {join(selection)}\n")


def test_nothing_is_replayed_anywhere_before_all_of_it_is_confirmed(tmp_path: Path) -> None:
    careful = {"/ops/dead-letters": page(LETTER, confirm="it moves money")}
    free = {"/ops/dead-letters": page(LETTER), "POST /ops/replays": Says(201, replay())}
    with fleet(tmp_path, order=free, payment=careful) as services:
        refused = [services.call("dlt", "replay", "--all", *more) for more in ((), ("--yes",), ("--reason", "why"))]
        begun = [each for asked in services.asked.values() for each in asked if each.method != "GET"]

    assert [each.exit_code for each in refused] == [5, 5, 5]
    assert "payment (it moves money)" in refused[0].stderr
    assert begun == []


def test_a_replay_is_followed_to_its_real_outcome(tmp_path: Path) -> None:
    known = {
        "/ops/dead-letters": page(LETTER, confirm="it moves money"),
        "POST /ops/replays": Says(201, replay("running", waiting=2)),
        "/ops/replays/7": replay("done", succeeded=1, failed_again=1),
    }
    options = ("--rate", "5", "--canary", "--max-failing", "10%", "--yes", "--reason", "mended")
    with fleet(tmp_path, payment=known) as services:
        shown = services.call("dlt", "replay", "--all", *options)
        asked = [each.body for each in services.asked["payment"] if each.method == "POST"]

    assert shown.exit_code == 1
    assert "Failed again:" in shown.stdout
    assert asked == [
        {
            "filter": {},
            "plan": {"rate_per_s": 5.0, "canary": True, "failing_share_max": 0.1},
            "reason": "mended",
            "confirmed": True,
        }
    ]


@pytest.mark.parametrize(("option", "canary"), [([], True), (["--canary"], True), (["--at-once"], False)])
def test_a_replay_goes_in_small_steps_unless_it_is_said_otherwise(
    tmp_path: Path, option: list[str], canary: bool
) -> None:
    known = {"/ops/dead-letters": page(LETTER), "POST /ops/replays": Says(201, replay("running", waiting=2))}
    with fleet(tmp_path, inventory=known) as services:
        services.call("dlt", "replay", "--all", "--detach", *option)
        asked = [each.body["plan"]["canary"] for each in services.asked["inventory"] if each.method == "POST"]

    assert asked == [canary]


def test_a_replay_that_stopped_says_why_and_how_to_go_on(tmp_path: Path) -> None:
    stopped = replay("stopped", waiting=9, failed_again=1)
    known = {"POST /ops/replays/7/resume": replay("running"), "/ops/replays/7": stopped}
    with fleet(tmp_path, inventory=known) as services:
        shown = services.call("dlt", "resume", "inventory-7")

    assert shown.exit_code == 1
    assert "inventory-7 was stopped: too many failed again" in shown.stdout
    assert "orderflow dlt resume inventory-7" in shown.stdout


def test_what_died_meanwhile_without_being_replayed_has_not_failed_again(tmp_path: Path) -> None:
    letters = [{**LETTER, "position": 3, "replays": 1}, {**LETTER, "position": 4, "replays": 0}]
    known = {
        "/ops/dead-letters": page(*letters),
        "POST /ops/replays": Says(201, replay("running", waiting=2)),
        "/ops/replays/7": replay("done", succeeded=1, failed_again=1),
    }
    with fleet(tmp_path, inventory=known) as services:
        document = json.loads(services.call("dlt", "replay", "--all", "--json").stdout)

    assert [each["position"] for each in document["failed_again"]] == [3]


def test_replays_of_all_services_are_told_latest_first_and_those_that_are_held_say_why(tmp_path: Path) -> None:
    latest = {**replay("stopped", waiting=1), "created_at": "2026-01-02T03:06:00.5+00:00"}
    with fleet(tmp_path, order={"/ops/replays": [replay()]}, payment={"/ops/replays": [latest]}) as services:
        shown = services.call("dlt", "replays").stdout
        document = json.loads(services.call("dlt", "replays", "--json").stdout)

    assert [each["replay"] for each in document["replays"]] == ["payment-7", "order-7"]
    assert shown.index("payment-7") < shown.index("order-7")
    assert "payment-7 was stopped: too many failed again" in shown
    assert "orderflow dlt resume payment-7" in shown
    assert "orderflow dlt resume order-7" not in shown


def test_what_is_not_dead_is_not_replayed(tmp_path: Path) -> None:
    waiting = {**DETAILS, "letter": {**LETTER, "state": "retrying"}}
    with fleet(tmp_path, payment={ONE: waiting}) as services:
        shown = services.call("dlt", "replay", ORDER_ID)

    assert shown.exit_code == 5
    assert "not dead" in shown.stderr
    assert f"orderflow dlt list --order {ORDER_ID} --state all" in shown.stderr


def test_a_replay_that_one_service_refuses_goes_on_at_the_others(tmp_path: Path) -> None:
    free = {
        "/ops/dead-letters": page(LETTER),
        "POST /ops/replays": Says(201, replay("running")),
        "/ops/replays/7": replay(succeeded=1),
    }
    refusing = {"/ops/dead-letters": page(LETTER), "POST /ops/replays": problem(409, "nothing to replay")}
    with fleet(tmp_path, order=refusing, payment=free) as services:
        shown = services.call("dlt", "replay", "--all")

    assert shown.exit_code == 3
    assert "payment-7" in shown.stdout
    assert "nothing to replay" in shown.stderr


CHANGES = [
    {"field": "currency", "before": None, "after": '"EUR"'},
    {"field": "total", "before": "5", "after": "6\x1b"},
]
EDITABLE = {
    ONE: DETAILS,
    f"POST {ONE}/preview": {"event_id": LETTER["event_id"], "changes": CHANGES},
    f"PUT {ONE}/value": LETTER,
}


def test_a_field_is_set_and_the_rest_of_the_value_stays(tmp_path: Path) -> None:
    with fleet(tmp_path, payment=EDITABLE) as services:
        edited = services.call("dlt", "edit", ORDER_ID, "--set", "total=6", "--set", "currency=EUR", "--yes")
        asked = [each for each in services.asked["payment"] if each.method != "GET"]

    assert edited.exit_code == 0, edited.stderr
    value = {"text": '{"total":6,"currency":"EUR"}'}
    assert [(each.method, each.body) for each in asked] == [
        ("POST", value),
        ("PUT", {**value, "seen": LETTER["event_id"], "reason": "", "confirmed": True}),
    ]


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 5), ("", 5)])
def test_what_an_edit_would_change_is_shown_and_agreed_to_before_it_is_stored(
    answer: str, code: int, tmp_path: Path
) -> None:
    with fleet(tmp_path, payment=EDITABLE) as services:
        edited = services.call("dlt", "edit", ORDER_ID, "--set", "total=6", typed=answer)
        stored = [each for each in services.asked["payment"] if each.method == "PUT"]

    assert edited.exit_code == code, edited.stderr
    lines = [line.split() for line in edited.stdout.splitlines()]
    assert ["total:", "5", "->", "6\\x1b"] in lines
    assert ["currency:", "nothing", "->", '"EUR"'] in lines
    assert len(stored) == (code == 0)
    assert ("Nothing was stored" in edited.stderr) == (code != 0)


def test_an_edit_that_the_service_refuses_is_not_even_asked_about(tmp_path: Path) -> None:
    refusing = {**EDITABLE, f"POST {ONE}/preview": problem(422, "the items add up to 5")}
    with fleet(tmp_path, payment=refusing) as services:
        edited = services.call("dlt", "edit", ORDER_ID, "--set", "total=6", "--yes")
        stored = [each for each in services.asked["payment"] if each.method == "PUT"]

    assert edited.exit_code == 5
    assert "the items add up to 5" in edited.stderr
    assert stored == []


def test_a_group_is_discarded_but_for_what_is_gone_meanwhile(tmp_path: Path) -> None:
    letters = [{**LETTER, "position": position} for position in (3, 4, 5)]
    discarded = {f"POST /ops/dead-letters/{position}/discard": {"discarded": True} for position in (3, 5)}
    known = {"/ops/dead-letters": page(*letters), **discarded}
    with fleet(tmp_path, payment=known) as services:
        said = services.call("dlt", "discard", "--group", "abc", "--reason", "noise").stdout
        document = json.loads(services.call("dlt", "discard", "--group", "abc", "--reason", "noise", "--json").stdout)
        asked = [each for each in services.asked["payment"] if each.method == "POST"]
        one = services.call("dlt", "discard", "4", "--service", "payment", "--reason", "noise")
        queries = {parse_qs(urlsplit(each.path).query)["fingerprint"][0] for each in services.asked["order"]}

    assert said == "Discarded at payment: 2 events.\n"
    assert [each["position"] for each in document["discarded"]] == [3, 5]
    assert asked[0].body == {"reason": "noise", "confirmed": False}
    assert queries == {"abc"}
    assert one.exit_code == 4


def test_a_written_test_says_whether_the_event_fails_by_the_code_that_is_here(tmp_path: Path) -> None:
    path = f"{ONE.removesuffix(ORDER_ID)}3/reproduction"
    mended = changed_row(status="CAPTURED", captured=5)
    for reproduction, said in ((REPRODUCTION, "It fails here: IllegalTransitionError"), (mended, "It passes here")):
        with fleet(tmp_path, payment={ONE: DETAILS, path: reproduction}) as services:
            file = tmp_path / f"test_{len(said)}.py"
            written = services.call("dlt", "pytest", ORDER_ID, "--output", str(file))
            printed = services.call("dlt", "pytest", ORDER_ID, "--output", "-")
            document = json.loads(services.call("dlt", "pytest", ORDER_ID, "--output", "-", "--json").stdout)

        assert written.exit_code == 0, written.stderr
        assert said in written.stdout
        command = written.stdout.partition("Run it with: ")[2].splitlines()[0]
        ran = subprocess.run(shlex.split(command), capture_output=True, text=True)
        assert ran.returncode == (1 if "fails" in said else 0)
        assert ("IllegalTransitionError" in ran.stderr) is ("fails" in said)
        assert file.read_text() == printed.stdout == document["test"]
        assert document["fails"] is said.startswith("It fails")


def test_the_log_of_all_services_is_one(tmp_path: Path) -> None:
    act = {"number": 1, "who": "ada\x1b", "action": "note", "target": "abc", "reason": "", "result": "done"}
    with fleet(
        tmp_path,
        order={"/ops/actions": [{**act, "at": "2026-01-02T03:04:05Z"}]},
        payment={"/ops/actions": [{**act, "at": "2026-01-02T03:04:06Z"}]},
    ) as services:
        shown = services.call("dlt", "log").stdout
        latest = json.loads(services.call("dlt", "log", "--limit", "1", "--json").stdout)["actions"]

    assert "ada\\x1b" in shown
    assert "\x1b" not in shown
    assert [each["service"] for each in latest] == ["payment"]


@pytest.mark.parametrize(
    ("action", "target", "shown"),
    [
        ("replay", "replay 12", "replay payment-12"),
        ("replay done", "replay 12", "replay done payment-12"),
        ("fault add", "fault 3: hang at A with b=c", "fault add payment-3: hang at A with b=c"),
        ("note", "my replay 12", "note my replay 12"),
    ],
)
def test_the_log_names_a_replay_or_a_fault_as_commands_take_it(
    action: str, target: str, shown: str, tmp_path: Path
) -> None:
    act = {"number": 1, "at": "2026-01-02T03:04:05Z", "who": "ada", "reason": "", "result": "done"}
    with fleet(tmp_path, payment={"/ops/actions": [{**act, "action": action, "target": target}]}) as services:
        assert f"  {shown}\n" in services.call("dlt", "log").stdout
