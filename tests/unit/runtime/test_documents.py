"""The OpenAPI documents of the four services: whole, with examples that fit, and problems that lead somewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from orderflow.http import operation as http_operation
from orderflow.http.application import Application
from orderflow.http.openapi import docs_operations
from orderflow.http.problems import ProblemError
from orderflow.registry import SAGA
from scripts.lint_api import documents
from tests.support.frame import Recorder
from tests.support.problems_page import PAGE, page

DOCUMENTS: Mapping[str, Any] = documents()


@pytest.fixture(params=sorted(DOCUMENTS))
def document(request: pytest.FixtureRequest) -> Any:
    return DOCUMENTS[request.param]


def operations(document: Any) -> Iterator[tuple[str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def contents(operation: Any) -> Iterator[tuple[str, Any]]:
    """Every body of it, with the status that it comes with; the request's is "sent"."""
    if "requestBody" in operation:
        yield "sent", operation["requestBody"]["content"]["application/json"]
    for status, response in operation["responses"].items():
        for content in response.get("content", {}).values():
            yield status, content


def test_a_document_fits_the_schema_of_openapi(document: Any) -> None:
    jsonschema.Draft202012Validator(OPENAPI_31).validate(document)


def test_every_operation_says_what_it_is_for(document: Any) -> None:
    assert [name for name, each in operations(document) if len(each.get("description", "")) < 40] == []
    assert [
        f"{name}: {parameter['name']}"
        for name, each in operations(document)
        for parameter in each.get("parameters", [])
        if not parameter["description"]
    ] == []


def test_whatever_is_json_has_an_example_and_each_fits(document: Any) -> None:
    missing = []
    for name, operation in operations(document):
        for status, content in contents(operation):
            schema = {**content["schema"], "components": document["components"]}
            examples = [each["value"] for each in content.get("examples", {}).values()]
            examples += [content["example"]] if "example" in content else []
            if not examples and content["schema"] != {"type": "string"}:
                missing.append(f"{name}: {status}")
            for example in examples:
                jsonschema.Draft202012Validator(schema).validate(example)
    assert missing == []


@pytest.mark.parametrize("service", SAGA)
def test_who_acts_shows_a_token_and_may_have_to_confirm(service: str) -> None:
    operation = DOCUMENTS[f"{service}-ops"]["paths"]["/ops/dead-letters/{id}/discard"]["post"]
    [header] = [each for each in operation["parameters"] if each["in"] == "header"]
    assert (header["name"], header["required"], header["schema"]["minLength"]) == ("x-orderflow-operator", False, 1)
    assert operation["security"] == [{"token": []}]
    assert list(operation["responses"]) == [
        *("200", "400", "401", "403", "404", "408", "413", "415", "422", "428", "500", "503")
    ]


def test_what_is_enforced_of_an_order_is_told() -> None:
    document = DOCUMENTS["order"]
    placing = document["paths"]["/orders"]["post"]
    schemas = document["components"]["schemas"]
    assert "EUR" in schemas["NewOrder"]["properties"]["currency"]["enum"]
    assert "XXX" not in schemas["NewOrder"]["properties"]["currency"]["enum"]
    assert placing["parameters"][0]["schema"]["pattern"].startswith('^(?:"')
    assert set(placing["responses"]["409"]["headers"]) == {"Retry-After"}
    assert set(placing["responses"]["503"]["headers"]) == {"Retry-After"}
    assert set(placing["responses"]["422"]["content"]["application/problem+json"]["examples"]) == {
        "invalid-request",
        "idempotency-key-reused",
    }


def test_every_problem_that_is_told_of_leads_to_a_page_of_the_service(document: Any) -> None:
    known = {each.uri: each for each in http_operation.ALL}
    for _, operation in operations(document):
        for status, content in contents(operation):
            for example in content.get("examples", {}).values():
                assert str(known[example["value"]["type"]].status) == status


async def test_the_type_of_a_problem_is_a_page_that_says_what_to_do() -> None:
    recorder = Recorder()
    frame = Application(docs_operations("Test", "1.0", ()), recorder.state)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=frame), base_url="http://x") as web:
        for each in http_operation.ALL:
            shown = await web.get(each.uri)
            assert (shown.status_code, shown.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert each.remedy.split("`")[0].split('"')[0] in shown.text
            assert "default-src 'none'" in shown.headers["content-security-policy"]
        nowhere = (await web.get("/nowhere")).json()
        assert nowhere["type"] == "/docs/problems/not-found"
        assert (await web.get("/docs/problems/no-such")).status_code == 404
        assert f'id="{http_operation.CONFLICT.name}"' in (await web.get("/docs/problems")).text


def test_a_status_alone_has_a_type_too() -> None:
    assert ProblemError(431, "too large").problem.type == "/docs/problems/header-fields-too-large"
    assert ProblemError(418, "a teapot").problem.type == "about:blank"


def test_the_page_in_the_docs_is_the_one_that_the_table_makes() -> None:
    assert Path(PAGE).read_text(encoding="utf-8") == page(), "run: python -m tests.support.problems_page"
