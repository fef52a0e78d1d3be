"""The OpenAPI 3.1 document of a service, made from the operations that also make its routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

import msgspec

from orderflow.runtime.operation import Operation, Parameter, Response
from orderflow.runtime.problems import Problem

_REF = "#/components/schemas/{name}"
_BODY_ERRORS = {
    400: "The body is not JSON in UTF-8",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is not application/json",
    422: "A field does not fit; it is named",
}
Json = dict[str, Any]


def build_openapi(title: str, version: str, operations: Iterable[Operation]) -> Json:
    """A complete document (spec.openapis.org/oas/v3.1.1), as plain data."""
    listed = list(operations)
    types = _Types(listed)
    paths: dict[str, Json] = {}
    for operation in listed:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, types)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": types.components},
    }


class _Types:
    """JSON Schemas of every type that the operations name."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        found: list[Any] = [Problem]
        for operation in operations:
            found += [] if operation.request is None else [operation.request]
            found += [parameter.type for parameter in operation.parameters]
            found += [response.type for response in operation.responses if response.type is not None]
        schemas, self.components = msgspec.json.schema_components(found, ref_template=_REF)
        for component in self.components.values():
            component["description"] = cleandoc(component.get("description", ""))
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
    if operation.tag:
        described["tags"] = [operation.tag]
    if operation.parameters:
        described["parameters"] = [_parameter(each, types) for each in operation.parameters]
    if operation.request is not None:
        content = {"application/json": {"schema": types.schema(operation.request)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _parameter(parameter: Parameter, types: _Types) -> Json:
    schema = dict(types.schema(parameter.type))
    if _is_sayable(parameter):
        schema["default"] = msgspec.to_builtins(parameter.default)
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path",
        "description": parameter.description,
        "schema": schema,
    }


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
    for status, description in _frame_errors(operation).items():
        described.setdefault(str(status), _response(Response(status=status, description=description), types))
    return dict(sorted(described.items()))


def _frame_errors(operation: Operation) -> Mapping[int, str]:
    errors = dict(_BODY_ERRORS) if operation.request is not None else {}
    where = {parameter.where for parameter in operation.parameters}
    if "path" in where:
        errors[404] = HTTPStatus.NOT_FOUND.phrase
    if where & {"query", "header"}:
        errors[422] = "A field or parameter does not fit; it is named"
    errors[500] = "A defect of the service"
    errors[503] = "The service is starting or stopping, or what it needs is away; see Retry-After"
    return errors


def _response(response: Response, types: _Types) -> Json:
    described: Json = {"description": response.description}
    if response.headers:
        described["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in response.headers.items()
        }
    if response.type is not None:
        described["content"] = {response.media_type: {"schema": types.schema(response.type)}}
    elif response.status >= 400:
        described["content"] = {"application/problem+json": {"schema": types.schema(Problem)}}
    return described
