"""The frame, without a socket: routing, parameters, content types, traces, errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx2
import pytest

from orderflow.core.engine import DecisionFailedError, OverloadedError
from orderflow.core.service import RefusedError
from orderflow.core.store import StoreUnavailableError
from orderflow.core.transport import TransportUnavailableError
from orderflow.http.application import Application, Mount
from orderflow.http.operation import Operation, Parameter, Reply, Request
from orderflow.http.problems import Problem
from tests.support.frame import GOOD, Recorder

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def client(frame: Application) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=frame)
    return httpx2.AsyncClient(transport=transport, base_url="http://x")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def web(recorder: Recorder) -> httpx2.AsyncClient:
    return client(Application(recorder.operations(), recorder.state))


async def test_a_handler_gets_what_was_declared(recorder: Recorder, web: httpx2.AsyncClient) -> None:
    answer = await web.post(
        "/baskets?limit=3", json=GOOD, headers={"idempotency-key": "k", "traceparent": TRACEPARENT}
    )
    assert answer.status_code == 201
    [request] = recorder.baskets
    assert request.values == {"Idempotency-Key": "k", "limit": 3}
    assert request.traceparent == TRACEPARENT
    assert request.content == answer.request.content
    assert recorder.observed == [("/baskets", "POST", 201)]


async def test_a_header_that_is_sent_twice_is_one_list(recorder: Recorder, web: httpx2.AsyncClient) -> None:
    twice = [("idempotency-key", '"a"'), ("x-other", "1"), ("idempotency-key", '"b"')]
    assert (await web.post("/baskets", json=GOOD, headers=twice)).status_code == 201
    assert recorder.baskets[0].values["Idempotency-Key"] == '"a", "b"'


async def test_parameters_that_are_absent_have_their_default(recorder: Recorder, web: httpx2.AsyncClient) -> None:
    await web.post("/baskets", json=GOOD)
    assert recorder.baskets[0].values == {"Idempotency-Key": None, "limit": 2}


@pytest.mark.parametrize(
    ("query", "status", "parameter"),
    [
        ("limit=0", 422, "limit"),
        ("limit=x", 422, "limit"),
        *(
            (f"limit={spelling}", 422, "limit")
            for spelling in ("5.0", "5e0", "05", "%2B5", "%205", "-0.0", "null", "")
        ),
        ("limit=2%0a", 422, "limit"),
        ("limit=%C2%85", 422, "limit"),
        ("limit=%E2%80%A8", 422, "limit"),
        ("a%E2%80%AEb=1", 422, "a\\u202eb"),
        ("limit=1&limit=2", 422, "limit"),
        ("limt=1", 422, "limt"),
        ("limit=%00", 422, "limit"),
        ("limit=%ff", 400, None),
        ("&".join(f"a{number}=1" for number in range(100)), 400, None),
    ],
)
async def test_a_wrong_query_is_refused_and_named(
    recorder: Recorder, web: httpx2.AsyncClient, query: str, status: int, parameter: str | None
) -> None:
    answer = await web.post(f"/baskets?{query}", json=GOOD)
    assert answer.status_code == status
    assert [error["parameter"] for error in answer.json().get("errors", [])] == ([parameter] if parameter else [])
    assert recorder.baskets == []


@pytest.mark.parametrize(
    ("wanted", "taken", "refused"),
    [
        (int, ["0", "-7", "42"], ["5.0", "1e1", "+1", "1_0", "\u0665", "0x1", "true", ""]),
        (float, ["0", "2.5", "-1", "1e1", "5E-05"], ["nan", "inf", "-inf", ".5", "5.", "1e", "1e999", "1_0"]),
        (bool, ["true", "false"], ["1", "0", "True", "TRUE", "yes", "null"]),
        (UUID, [str(UUID(int=1))], ["0" * 32, "{" + str(UUID(int=1)) + "}", "urn:uuid:" + str(UUID(int=1))]),
        (UUID | int, [str(UUID(int=1)), "7"], ["7.0", "0" * 32]),
        (int | None, ["7"], ["null", ""]),
        (str | None, ["null", "7", "5.0"], ["\u202e", "\x85"]),
    ],
)
async def test_a_parameter_has_one_spelling(
    recorder: Recorder, wanted: Any, taken: list[str], refused: list[str]
) -> None:
    async def show(request: Request[None]) -> Reply:
        return Reply(body=str(request.values["value"]))

    value = Parameter(name="value", where="query", description="", type=wanted)
    operation = Operation(method="GET", path="/x", summary="", handler=show, responses=[], parameters=[value])
    web = client(Application([operation], recorder.state))
    for text in taken:
        assert (await web.get("/x", params={"value": text})).status_code == 200, text
    for text in refused:
        answer = await web.get("/x", params={"value": text})
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "value"), text


@pytest.mark.parametrize("sent", [b'"\xe2\x80\xae"', b'"\xc2\x85"', b'"\x85"', b'"a\tb"'])
async def test_a_text_in_a_header_is_held_to_the_rule_of_all_texts(
    recorder: Recorder, web: httpx2.AsyncClient, sent: bytes
) -> None:
    answer = await web.post("/baskets", json=GOOD, headers=[(b"idempotency-key", sent)])
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "Idempotency-Key")
    assert recorder.baskets == []


async def test_a_path_is_matched_whole_and_a_parameter_is_one_segment(recorder: Recorder) -> None:
    async def show(request: Request[None]) -> Reply:
        return Reply(body=request.values)

    name = Parameter(name="name", where="path", description="")
    plain = Operation(method="GET", path="/x/known", summary="", handler=show, responses=[])
    one = Operation(method="GET", path="/x/{name}", summary="", handler=show, responses=[], parameters=[name])
    more = Operation(method="GET", path="/x/{name}/y.z", summary="", handler=show, responses=[], parameters=[name])
    web = client(Application([one, more, plain], recorder.state))
    for path, values in (
        ("known", {}),
        ("a", {"name": "a"}),
        ("{name}", {"name": "{name}"}),
        ("a/y.z", {"name": "a"}),
    ):
        assert (await web.get(f"/x/{path}")).json() == values
    for path in ("", "a/b", "a/y-z", "a/y.z/", "known/", "known%0A", "a%0A"):
        assert (await web.get(f"/x/{path}")).status_code == 404, path


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 201),
        ({"content-type": "Application/JSON; charset=UTF-8"}, 201),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
    ],
)
async def test_only_plain_json_is_read(web: httpx2.AsyncClient, headers: dict[str, str], status: int) -> None:
    content = httpx2.Request("POST", "http://x", json=GOOD).content
    assert (await web.post("/baskets", content=content, headers=headers)).status_code == status


@pytest.mark.parametrize(
    "sent",
    ["", "nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff" + TRACEPARENT[2:], TRACEPARENT.upper()],
)
async def test_a_trace_that_is_not_valid_is_replaced(recorder: Recorder, web: httpx2.AsyncClient, sent: str) -> None:
    await web.post("/baskets", json=GOOD, headers={"traceparent": sent})
    made = recorder.baskets[0].traceparent
    assert made != sent
    assert len(made) == len(TRACEPARENT)


async def test_a_later_version_of_the_trace_header_is_read_as_far_as_it_is_known(
    recorder: Recorder, web: httpx2.AsyncClient
) -> None:
    await web.post("/baskets", json=GOOD, headers={"traceparent": f"cc{TRACEPARENT[2:]}-what-comes"})
    assert recorder.baskets[0].traceparent == f"cc{TRACEPARENT[2:]}"


async def test_a_defect_is_500_without_its_details_and_is_logged(
    web: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await web.get("/failing")
    assert (answer.status_code, answer.json()["detail"]) == (500, "the request hit a bug")
    assert "secret" not in answer.text
    assert caplog.records[0].exc_info is not None


async def test_a_defect_is_logged_with_what_was_asked_for(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    failing = next(each for each in recorder.operations() if each.path == "/failing")
    order = Parameter(name="order_id", where="path", description="An order")
    operation = replace(failing, path="/failing/{order_id}", parameters=(order,))
    with caplog.at_level(logging.ERROR):
        await client(Application([operation], recorder.state)).get("/failing/4711")
    assert caplog.messages == ["a request to /failing/4711 failed"]


async def test_a_path_that_is_not_there_is_one_route_in_the_metrics(
    recorder: Recorder, web: httpx2.AsyncClient
) -> None:
    nowhere = await web.get("/a/b")
    assert (nowhere.status_code, nowhere.json()["detail"]) == (404, "there is nothing at this path")
    assert (await web.request("BREW", "/c")).status_code == 404
    assert recorder.observed == [("(none)", "other", 404), ("(none)", "other", 404)]


async def test_head_is_answered_where_get_is(web: httpx2.AsyncClient) -> None:
    answer = await web.head("/baskets")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await web.head("/failing")).status_code == 500


async def test_while_draining_nothing_is_changed(recorder: Recorder, web: httpx2.AsyncClient) -> None:
    recorder.state.draining = True
    answer = await web.post("/baskets", json=GOOD)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert recorder.baskets == []


async def test_a_frame_that_is_starting_asks_to_come_again(recorder: Recorder) -> None:
    answer = await client(Application([], recorder.state, starting=True)).get("/orders")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (lambda: RefusedError("no"), 409, None),
        (lambda: RefusedError(Problem(status=418, title="Teapot")), 418, None),
        (lambda: OverloadedError(7), 503, "7"),
        (lambda: StoreUnavailableError("postgresql://u:geheim@h"), 503, "2"),
        (lambda: TransportUnavailableError("x"), 503, "2"),
        (lambda: DecisionFailedError("geheim"), 500, None),
    ],
)
async def test_errors_of_the_core_have_their_answers(
    recorder: Recorder, error: Callable[[], Exception], status: int, retry_after: str | None
) -> None:
    async def fail(_: Request[Any]) -> Reply:
        raise error()

    operation = Operation(method="GET", path="/x", summary="", handler=fail, responses=[])
    answer = await client(Application([operation], recorder.state)).get("/x")
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
    assert "geheim" not in answer.text


def test_an_operation_declared_twice_is_a_defect(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="declared twice"):
        Application([*recorder.operations(), *recorder.operations()], recorder.state)


async def test_an_application_of_any_framework_answers_below_its_path(recorder: Recorder) -> None:
    async def told(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"{scope['root_path']} {scope['path']}".encode()})

    web = client(
        Application(recorder.operations(), recorder.state, {"/admin": Mount(told), "/admin/deep": Mount(told)})
    )

    assert (await web.get("/admin")).text == "/admin /admin"
    assert (await web.get("/admin/x/y")).text == "/admin /admin/x/y"
    assert (await web.get("/admin/deep/x")).text == "/admin/deep /admin/deep/x"
    assert (await web.get("/administrator")).status_code == 404
    assert (await web.get("/failing")).status_code == 500


@pytest.mark.parametrize("place", ["/", "", "admin", "/admin/"])
def test_an_application_is_mounted_at_a_path(recorder: Recorder, place: str) -> None:
    with pytest.raises(ValueError, match="cannot be the path of an application: give one like '/admin'"):
        Application(recorder.operations(), recorder.state, {place: Mount(lambda *_: None)})  # type: ignore[arg-type]
