"""Path, query and header parameters: converted, bounded, and named when they do not fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from orderflow.observability.text import clean
from orderflow.runtime.operation import Operation, Parameter
from orderflow.runtime.problems import FieldError, ProblemError
from orderflow.runtime.text import fault_of
from orderflow.runtime.wording import in_words

_QUERY_FIELDS_MAX = 50
_SPELLINGS: Mapping[type[msgspec.inspect.Type], tuple[re.Pattern[str], str]] = {
    msgspec.inspect.IntType: (re.compile(r"-?(?:0|[1-9][0-9]*)"), "a whole number, in digits only"),
    msgspec.inspect.FloatType: (
        re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"),
        "a number, such as 2 or 2.5",
    ),
    msgspec.inspect.BoolType: (re.compile(r"true|false"), "true or false"),
    msgspec.inspect.UUIDType: (
        re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
        "a UUID, such as 01890a5d-ac96-774b-bcce-b302099a8057",
    ),
    msgspec.inspect.NoneType: (re.compile(r"(?!)"), ""),
}
_OF_OTHER_TYPES = frozenset({msgspec.inspect.IntType, msgspec.inspect.FloatType, msgspec.inspect.BoolType})


class ParameterReader:
    """Reads the declared parameters of one operation; query parameters that are not declared are refused."""

    def __init__(self, operation: Operation) -> None:
        readers = [_Reader(each) for each in operation.parameters]
        self._path = [each for each in readers if each.where == "path"]
        self._query = {each.name: each for each in readers if each.where == "query"}
        self._headers = [(each.name.lower().encode(), each) for each in readers if each.where == "header"]

    def read(self, path: Mapping[str, str], query: bytes, headers: Mapping[bytes, bytes]) -> Mapping[str, Any]:
        """Every declared parameter by name. Raises ProblemError 404 (path) or 422."""
        values: dict[str, Any] = {}
        for parameter in self._path:
            values[parameter.name] = parameter.read(path[parameter.name], 404)
        for name, parameter in self._headers:
            raw = headers.get(name)
            values[parameter.name] = parameter.absent() if raw is None else parameter.read(_text_of(raw), 422)
        if self._query or query:
            values |= self._read_query(query)
        return values

    def _read_query(self, query: bytes) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, text in _split(query):
            parameter = self._query.get(name)
            if parameter is None:
                raise _refused(422, name, f"there is no such parameter; known: {', '.join(self._query) or 'none'}")
            if name in values:
                raise _refused(422, name, "the parameter is given twice")
            values[name] = parameter.read(text, 422)
        return {name: values[name] if name in values else each.absent() for name, each in self._query.items()}


def _split(query: bytes) -> Sequence[tuple[str, str]]:
    try:
        return parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_QUERY_FIELDS_MAX
        )
    except ValueError as error:
        raise ProblemError(400, "the query is not percent-encoded UTF-8, or has too many fields") from error


class _Reader:
    """Reads the text of one parameter, in the one spelling that its type has in the document.

    msgspec reads texts more freely: 5.0 and 5e0 as whole numbers, `null` as nothing, 1 as true.
    """

    def __init__(self, parameter: Parameter) -> None:
        self.name = parameter.name
        self.where = parameter.where
        self._parameter = parameter
        self._type = parameter.type
        kinds = {*_kinds(msgspec.inspect.type_info(parameter.type))}
        self._spellings = [_SPELLINGS[kind] for kind in _SPELLINGS if kind in kinds] if kinds <= {*_SPELLINGS} else []
        self._strict = kinds.isdisjoint(_OF_OTHER_TYPES)

    def absent(self) -> Any:
        """What is taken where nothing is given. Raises ProblemError: it must be given."""
        if self._parameter.required:
            raise _refused(422, self.name, f"it is missing: {self._parameter.description}")
        return self._parameter.default

    def read(self, text: str, status: int) -> Any:
        """The value. Raises ProblemError."""
        if detail := fault_of(text):
            raise _refused(status, self.name, detail)
        if self._spellings and not any(pattern.fullmatch(text) for pattern, _ in self._spellings):
            wanted = " or ".join(meaning for _, meaning in self._spellings if meaning)
            raise _refused(status, self.name, f"expected {wanted}")
        try:
            return msgspec.convert(text, self._type, strict=self._strict)
        except msgspec.ValidationError as error:
            raise _refused(status, self.name, in_words(str(error), self._type)) from error


def _kinds(info: msgspec.inspect.Type) -> Iterator[type[msgspec.inspect.Type]]:
    if isinstance(info, msgspec.inspect.Metadata):
        yield from _kinds(info.type)
    elif isinstance(info, msgspec.inspect.UnionType):
        for each in info.types:
            yield from _kinds(each)
    else:
        yield type(info)


def _text_of(value: bytes) -> str:
    """A header's bytes beyond ASCII have no meaning of their own (RFC 9110, 5.5): UTF-8 where they are that."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _refused(status: int, name: str, detail: str) -> ProblemError:
    shown = clean(name)[:100]
    return ProblemError(status, f"{shown}: {detail}", errors=[FieldError(detail=detail, parameter=shown)])
