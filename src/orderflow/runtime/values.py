"""Path, query and header parameters: converted, bounded, and named when they do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from orderflow.runtime.operation import Operation, Parameter
from orderflow.runtime.problems import FieldError, ProblemError
from orderflow.runtime.wording import in_words

_QUERY_FIELDS_MAX = 50


class ParameterReader:
    """Reads the declared parameters of one operation; query parameters that are not declared are refused."""

    def __init__(self, operation: Operation) -> None:
        self._path = [each for each in operation.parameters if each.where == "path"]
        self._query = {each.name: each for each in operation.parameters if each.where == "query"}
        self._headers = [
            (each.name.lower().encode(), each) for each in operation.parameters if each.where == "header"
        ]

    def read(self, path: Mapping[str, str], query: bytes, headers: Mapping[bytes, bytes]) -> Mapping[str, Any]:
        """Every declared parameter by name. Raises ProblemError 404 (path) or 422."""
        values: dict[str, Any] = {}
        for parameter in self._path:
            values[parameter.name] = _convert(parameter, path[parameter.name], 404)
        for name, parameter in self._headers:
            raw = headers.get(name)
            values[parameter.name] = (
                parameter.default if raw is None else _convert(parameter, raw.decode("latin-1"), 422)
            )
        if self._query or query:
            values |= self._read_query(query)
        return values

    def _read_query(self, query: bytes) -> dict[str, Any]:
        values = {name: parameter.default for name, parameter in self._query.items()}
        seen: set[str] = set()
        for name, text in _split(query):
            parameter = self._query.get(name)
            if parameter is None:
                raise _refused(422, name, f"there is no such parameter; known: {', '.join(self._query) or 'none'}")
            if name in seen:
                raise _refused(422, name, "the parameter is given twice")
            seen.add(name)
            values[name] = _convert(parameter, text, 422)
        return values


def _split(query: bytes) -> Sequence[tuple[str, str]]:
    try:
        return parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_QUERY_FIELDS_MAX
        )
    except ValueError as error:
        raise ProblemError(400, "the query is not percent-encoded UTF-8, or has too many fields") from error


def _convert(parameter: Parameter, text: str, status: int) -> Any:
    if "\0" in text:
        raise _refused(status, parameter.name, "text must not contain NUL")
    try:
        return msgspec.convert(text, parameter.type, strict=False)
    except msgspec.ValidationError as error:
        raise _refused(status, parameter.name, in_words(str(error), parameter.type)) from error


def _refused(status: int, name: str, detail: str) -> ProblemError:
    shown = name if name.isprintable() else ascii(name)
    shown = shown[:100]
    return ProblemError(status, f"{shown}: {detail}", errors=[FieldError(detail=detail, parameter=shown)])
