"""The OpenAPI document and its page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import httpx2
import msgspec

from orderflow.http.application import Application
from orderflow.http.openapi import build_openapi, docs_files, docs_operations
from orderflow.http.operation import Operation, Parameter, Reply, Request
from tests.support.frame import Recorder


def document() -> dict[str, Any]:
    return build_openapi("Test", "1.0", Recorder().operations())


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_reference_leads_somewhere() -> None:
    described = document()
    found = set(references(described))
    assert found
    for reference in found:
        target: Any = described
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert isinstance(target, dict)


def test_an_operation_says_its_body_its_parameters_and_its_errors() -> None:
    operation = document()["paths"]["/baskets"]["post"]
    assert operation["requestBody"]["required"] is True
    assert [(each["name"], each["in"], each["required"]) for each in operation["parameters"]] == [
        ("Idempotency-Key", "header", False),
        ("limit", "query", False),
    ]
    assert operation["parameters"][1]["schema"] == {"type": "integer", "minimum": 1, "maximum": 5, "default": 2}
    assert list(operation["responses"]) == ["201", "400", "408", "413", "415", "422", "500", "503"]
    assert "application/problem+json" in operation["responses"]["422"]["content"]


def test_unknown_fields_are_forbidden_in_the_document_too() -> None:
    assert document()["components"]["schemas"]["Basket"]["additionalProperties"] is False


def test_a_default_that_stands_for_absence_is_not_in_the_schema() -> None:
    async def handler(_: Request[None]) -> Reply:
        return Reply()

    sku = Annotated[str, msgspec.Meta(min_length=1, examples=["a"])]
    after = Parameter(name="after", where="query", description="", type=sku, default="")
    operation = Operation(method="GET", path="/x", summary="", handler=handler, responses=[], parameters=(after,))
    described = build_openapi("Test", "1.0", [operation])
    assert "default" not in described["paths"]["/x"]["get"]["parameters"][0]["schema"]


async def test_the_page_and_its_files_come_from_this_process_under_a_strict_policy() -> None:
    recorder = Recorder()
    operations = recorder.operations()
    frame = Application([*operations, *docs_operations("Test", "1.0", operations)], recorder.state, docs_files())
    transport = httpx2.ASGITransport(app=frame)
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as web:
        page = await web.get("/docs")
        assert "script-src 'self';" in page.headers["content-security-policy"]
        assert "http" not in page.text
        for path in ("/docs/start.js", "/docs/files/swagger-ui-bundle.js", "/docs/files/swagger-ui.css"):
            answer = await web.get(path)
            assert answer.status_code == 200
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert f'"{path}"' in page.text
        assert (await web.get("/openapi.json")).json()["openapi"] == "3.1.0"
        assert (await web.get("/docs/files/../../x")).status_code == 404
        nowhere = await web.get("/elsewhere")
        assert nowhere.json()["detail"] == "there is nothing at this path; /docs shows what there is"
        welcome = await web.get("/")
        assert welcome.headers["content-type"].startswith("text/html")
        for path in ("/docs", "/openapi.json"):
            assert f'<a href="{path}">' in welcome.text
