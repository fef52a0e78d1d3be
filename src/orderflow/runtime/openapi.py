"""The OpenAPI 3.1 document of a service, made from the operations that also make its routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from inspect import cleandoc
from typing import Any

import msgspec

from orderflow.runtime import problem_types
from orderflow.runtime.operation import Operation, Parameter, Response
from orderflow.runtime.problem_types import ProblemType
from orderflow.runtime.problems import MEDIA_TYPE, FieldError, Problem

DIALECT = "3.1.0"
_SCHEMA_REF = "#/components/schemas/{name}"
_DESCRIPTION = """\
All texts are UTF-8. A name that is not in a schema is refused, and so is a query parameter that is not described.
An error is a problem document (RFC 9457). Its `type` leads to a page of this service: see
[all of them](/docs/problems).

Any request can be answered with 400 (it breaks a rule of HTTP), 408 (it did not arrive in time), 431 (its head is too
large), 503 (there is too much to do) or 505 (it is not HTTP/1.1); one with a method that is not described with 405.
"""
_TAGS = {
    "docs": "This document, and what problem documents mean.",
    "health": "Probes and metrics.",
    "notifications": "What customers were told.",
    "operators": "What people who run the system see and do. An act is logged with who did it and why.",
    "orders": "Orders of customers.",
    "payments": "Payments of orders.",
    "stock": "Units of each SKU, free and reserved.",
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "After so many seconds it is worth another try (RFC 9110, 10.2.3).",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_FIELD = FieldError(detail="Expected `int` >= 1", pointer="/items/0/quantity")
Json = dict[str, Any]


def build_openapi(title: str, version: str, operations: Iterable[Operation]) -> Json:
    """A complete document (spec.openapis.org/oas/v3.1.1), as plain data."""
    listed = list(operations)
    types = _Types(listed)
    paths: dict[str, Json] = {}
    for operation in listed:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, types)
    tags = dict.fromkeys(operation.tag for operation in listed if operation.tag)
    document = {
        "openapi": DIALECT,
        "info": {
            "title": title,
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The process that gave this document"}],
        "security": [],
        "tags": [{"name": tag, "description": _TAGS.get(tag, tag)} for tag in tags],
        "paths": paths,
        "components": {"schemas": types.components},
    }
    plain: Json = msgspec.json.decode(msgspec.json.encode(document))
    return plain


class _Types:
    """JSON Schemas of every type that the operations name."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        found: list[Any] = [Problem]
        for operation in operations:
            found += [] if operation.request is None else [operation.request]
            found += [parameter.type for parameter in operation.parameters]
            found += [response.type for response in operation.responses if response.type is not None]
        schemas, self.components = msgspec.json.schema_components(found, ref_template=_SCHEMA_REF)
        for component in self.components.values():
            component["description"] = cleandoc(component.get("description", ""))
        for each in found:
            self.components.get(getattr(each, "__name__", ""), {}).update(getattr(each, "JSON_SCHEMA", {}))
        self._schemas = [*zip(found, schemas, strict=True)]

    def schema(self, wanted: Any) -> Json:
        return next(schema for known, schema in self._schemas if known is wanted)


def _operation(operation: Operation, types: _Types) -> Json:
    words = [part.strip("{}").replace("-", "_") for part in operation.path.split("/") if part]
    described: Json = {
        "operationId": "_".join([operation.method.lower(), *(word.replace(".", "_") for word in words)]),
        "summary": operation.summary,
        "responses": _responses(operation, types),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.tag:
        described["tags"] = [operation.tag]
    if operation.parameters:
        described["parameters"] = [_parameter(each, types) for each in operation.parameters]
    if operation.request is not None:
        content = _content(types.schema(operation.request), operation.example)
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    return described


def _content(schema: Json, example: object) -> Json:
    if example is None:
        return {"schema": schema}
    return {"schema": schema, "example": msgspec.to_builtins(example)}


def _parameter(parameter: Parameter, types: _Types) -> Json:
    schema = dict(types.schema(parameter.type))
    if _is_sayable(parameter):
        schema["default"] = msgspec.to_builtins(parameter.default)
    described = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required or parameter.where == "path",
        "description": parameter.description,
        "schema": schema,
    }
    if examples := schema.get("examples"):
        described["example"] = examples[0]
    return described


def _is_sayable(parameter: Parameter) -> bool:
    """A default that a client could not send (no cursor, say) stands for absence, and is not in the schema."""
    if parameter.default is None:
        return False
    try:
        msgspec.convert(parameter.default, parameter.type)
    except msgspec.ValidationError:
        return False
    return True


def _responses(operation: Operation, types: _Types) -> Json:
    described = {str(each.status): _response(each, types) for each in operation.responses}
    for status, problems in _frame_errors(operation).items():
        description = " ".join(each.meaning for each in problems)
        response = Response(status=status, description=description, problems=problems)
        described.setdefault(str(status), _response(response, types))
    return dict(sorted(described.items()))


def _frame_errors(operation: Operation) -> Mapping[int, Sequence[ProblemType]]:
    """What the frame answers by itself."""
    statuses = [400, 500]
    where = {parameter.where for parameter in operation.parameters}
    if operation.request is not None:
        statuses += [408, 413, 415]
    if "path" in where:
        statuses.append(404)
    if operation.request is not None or where & {"query", "header"}:
        statuses.append(422)
    errors: dict[int, Sequence[ProblemType]] = {each: (problem_types.BY_STATUS[each],) for each in statuses}
    return {**errors, 503: (problem_types.UNAVAILABLE, problem_types.OVERLOADED)}


def _response(response: Response, types: _Types) -> Json:
    described: Json = {"description": response.description}
    headers: Json = {
        name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in response.headers.items()
    }
    if response.type is not None:
        described["content"] = {response.media_type: _content(types.schema(response.type), response.example)}
    elif response.status >= 400:
        problems = response.problems or (problem_types.BY_STATUS[response.status],)
        examples = {each.name: {"summary": each.title, "value": _example_of(each)} for each in problems}
        content = {"schema": types.schema(Problem), "examples": examples}
        described["content"] = {MEDIA_TYPE.decode(): content}
        if response.status == 503 or problem_types.REQUEST_IN_PROGRESS in problems:
            headers |= _RETRY_AFTER
    if headers:
        described["headers"] = headers
    return described


def _example_of(kind: ProblemType) -> Json:
    is_of_a_field = kind is problem_types.INVALID_REQUEST
    example: Json = msgspec.to_builtins(
        Problem(
            status=kind.status,
            title=kind.title,
            type=kind.uri,
            detail=f"{_FIELD.pointer}: {_FIELD.detail}" if is_of_a_field else kind.meaning,
            errors=(_FIELD,) if is_of_a_field else (),
        )
    )
    return example
