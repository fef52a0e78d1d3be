"""What comes in over HTTP, read strictly: JSON bodies, path, query and header parameters.

One rule says what a text may hold. Refused are characters that no name has and that change how what stands beside
them is read or shown: controls (C0, DEL, C1), what sets or overrides a direction (Unicode's Bidi_Control, with the
older format controls beside it), line and paragraph separators, byte order marks, interlinear annotations,
noncharacters, and lone surrogates.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec

from orderflow.http.operation import Operation, Parameter
from orderflow.http.problems import FieldError, ProblemError, in_words, invalid_body
from orderflow.observability.logs import clean

_PLANES = "".join(f"{chr(plane * 0x10000 + 0xFFFE)}{chr(plane * 0x10000 + 0xFFFF)}" for plane in range(1, 17))
_C0 = r"\u0000-\u001f"
_OTHERS = (
    r"\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff" + _PLANES
)
PATTERN = rf"^[^{_C0}{_OTHERS}]*$(?!\n)"
"""The rule as a regular expression that ECMAScript (with its flag u), and so OpenAPI, reads alike. Lone surrogates
are not in it: they are in no JSON text."""
MEANS = "text without control characters, line separators, direction marks or noncharacters"

Text = Annotated[str, msgspec.Meta(pattern=PATTERN, description=MEANS)]
FilledText = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^[^{_C0}{_OTHERS}\S]*[^{_C0}{_OTHERS}\s][^{_C0}{_OTHERS}]*$(?!\n)",
        description=f"{MEANS}, and not blank",
    ),
]
IdEnd = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9a-f]{6,32}$(?!\n)", description="6 to 32 hexadecimal digits (0-9, a-f), without hyphens"
    ),
]
Raw = Annotated[str, msgspec.Meta(extra={"raw": True}, extra_json_schema={"pattern": "^[^\\u0000]*$"})]
"""Bytes in the shape of a text, which are kept as they are and shown with care: only what UTF-8 or the database
cannot hold is refused in it."""

_ANYWHERE = re.compile(rf"[{_C0}{_OTHERS}\ud800-\udfff]")
_BEYOND_ASCII = re.compile(rf"[{_OTHERS}\ud800-\udfff]")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def fault_of(text: str, *, raw: bool = False) -> str:
    """What is wrong with `text`, as the end of a sentence that names it; "" where nothing is."""
    found = (_UNSTORABLE if raw else _ANYWHERE).search(text)
    if found is None:
        return ""
    character = found[0]
    if character == "\0":
        return "text must not contain NUL"
    if "\ud800" <= character <= "\udfff":
        return "text must be UTF-8, without lone surrogates"
    name = unicodedata.name(character, "a control character" if ord(character) < 0xA0 else "a noncharacter")
    return f"text must not contain U+{ord(character):04X} ({name})"


def is_plainly_sound(content: bytes) -> bool:
    """Whether JSON shows at a glance that no text in it holds what is refused.

    A C0 control can stand in a text of it only as an escape.
    """
    if b"\\" in content or b"\x7f" in content:
        return False
    return content.isascii() or _BEYOND_ASCII.search(content.decode(errors="surrogateescape")) is None


T = TypeVar("T", bound=msgspec.Struct)
Count = Callable[[Any], int]
_WHOLE_BELOW = 10**19
ANY_ITEM = "*"


class StrictDecoder(Generic[T]):
    """Decodes into `body_type`, whose structs all forbid unknown fields (else TypeError, at once).

    Refused besides what msgspec refuses: names given twice, and texts that `http/validation.py` refuses. To look for
    either costs a second parse; where every field is required, counting colons proves that no name is given twice
    (a value with a colon in it only brings the second parse).
    """

    def __init__(self, body_type: type[T]) -> None:
        self._body_type = body_type
        self._decoder = msgspec.json.Decoder(body_type)
        info = msgspec.inspect.type_info(body_type)
        self._members = _member_count(info)
        self._raw = frozenset(_raw_fields(info, ""))

    def decode(self, content: bytes) -> T:
        """Raises ProblemError: 400 for what is not JSON, 422 for what does not fit, with the field named."""
        try:
            body = self._decoder.decode(content)
        except msgspec.ValidationError as error:
            body = self._with_whole_numbers(content, error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if not content:
                raise ProblemError(400, "the body is empty; expected JSON in UTF-8") from error
            self._inspect(content)
            raise ProblemError(400, f"the body is not JSON in UTF-8: {error}") from error
        proven = self._members is not None and content.count(b":") == self._members(body)
        if not (proven and is_plainly_sound(content)):
            self._inspect(content)
        return body

    def _with_whole_numbers(self, content: bytes, error: msgspec.ValidationError) -> T:
        """2.0 is a whole number as well (JSON Schema 2020-12, Validation, 6.1.1); msgspec takes 2 only."""
        try:
            document = json.loads(content, parse_float=_number, parse_constant=_refuse)
            return msgspec.convert(document, self._body_type)
        except (ValueError, RecursionError):
            raise invalid_body(error, self._body_type) from error

    def _inspect(self, content: bytes) -> None:
        """Name the field that msgspec does not look at, or whose place it does not tell."""
        try:
            text, status = content.decode(errors="surrogatepass"), 422
        except UnicodeDecodeError:
            # A byte that is not UTF-8 becomes a lone surrogate, by which its field is found.
            text, status = content.decode(errors="surrogateescape"), 400
        try:
            document = json.loads(text, object_pairs_hook=_Names)
        except (ValueError, RecursionError):
            return
        for pointer, detail in _faults(document, "", self._raw):
            raise ProblemError(status, f"{pointer}: {detail}", errors=[FieldError(detail=detail, pointer=pointer)])


def _number(text: str) -> int | float:
    with suppress(ArithmeticError):  # of an exponent that no number has
        number = Decimal(text)
        if -_WHOLE_BELOW < number < _WHOLE_BELOW and number == number.to_integral_value():
            return int(number)
    return float(text)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


class _Names(list[tuple[str, Any]]):
    """A JSON object as it was written: names in order, repeated ones too."""


def _faults(value: object, pointer: str, raw: frozenset[str]) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(pointer, detail)] if (detail := fault_of(value, raw=pointer in raw)) else []
    if isinstance(value, _Names):
        return _object_faults(value, pointer, raw)
    if isinstance(value, list):
        return [fault for index, item in enumerate(value) for fault in _item_faults(item, pointer, index, raw)]
    return []


def _item_faults(item: object, pointer: str, index: int, raw: frozenset[str]) -> list[tuple[str, str]]:
    here, any_item = f"{pointer}/{index}", f"{pointer}/{ANY_ITEM}"
    inner = raw and {each.replace(any_item, here, 1) for each in raw if each.startswith(any_item)}
    return _faults(item, here, raw | inner if inner else raw)


def _object_faults(members: _Names, pointer: str, raw: frozenset[str]) -> list[tuple[str, str]]:
    seen: set[str] = set()
    for name, value in members:
        shown = clean(name)
        where = f"{pointer}/{shown.replace('~', '~0').replace('/', '~1')}"
        if name in seen:
            return [(where, "the name is given twice")]
        seen.add(name)
        if detail := fault_of(name):
            return [(where, detail)]
        if faults := _faults(value, where, raw):
            return faults
    return []


def _raw_fields(info: msgspec.inspect.Type, pointer: str) -> Iterator[str]:
    """Where a `Raw` text stands, as a JSON pointer; in lists with ANY_ITEM for the index."""
    if isinstance(info, msgspec.inspect.StructType):
        for field in info.fields:
            yield from _raw_fields(field.type, f"{pointer}/{field.encode_name}")
    elif isinstance(info, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
        yield from _raw_fields(info.item_type, f"{pointer}/{ANY_ITEM}")
    elif isinstance(info, msgspec.inspect.UnionType):
        for each in info.types:
            yield from _raw_fields(each, pointer)
    elif isinstance(info, msgspec.inspect.Metadata):
        if (info.extra or {}).get("raw"):
            yield pointer
        yield from _raw_fields(info.type, pointer)


def _member_count(info: msgspec.inspect.Type) -> Count | None:
    """How many names a decoded value must have had; None where that cannot be said from the value."""
    if isinstance(info, msgspec.inspect.StructType):
        return _struct_count(info)
    if isinstance(info, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
        return _list_count(info.item_type)
    if isinstance(info, msgspec.inspect.DictType | msgspec.inspect.AnyType | msgspec.inspect.UnionType):
        return None
    return lambda _: 0


def _struct_count(info: msgspec.inspect.StructType) -> Count | None:
    if not info.forbid_unknown_fields:
        raise TypeError(
            f"{info.cls.__name__} does not forbid unknown fields: declare it with forbid_unknown_fields=True"
        )
    nested = [(field.name, _member_count(field.type)) for field in info.fields]
    if not all(field.required for field in info.fields) or any(count is None for _, count in nested):
        return None
    own = len(info.fields)
    inner = [
        (name, count)
        for (name, count), field in zip(nested, info.fields, strict=True)
        if count is not None and _holds_members(field.type)
    ]
    return lambda value: own + sum(count(getattr(value, name)) for name, count in inner)


def _list_count(item_type: msgspec.inspect.Type) -> Count | None:
    count = _member_count(item_type)
    if count is None:
        return None
    if isinstance(item_type, msgspec.inspect.StructType) and not any(
        _holds_members(field.type) for field in item_type.fields
    ):
        each = len(item_type.fields)
        return lambda values: each * len(values)
    return lambda values: sum(count(value) for value in values)


def _holds_members(info: msgspec.inspect.Type) -> bool:
    kinds = msgspec.inspect.StructType | msgspec.inspect.ListType | msgspec.inspect.VarTupleType
    return isinstance(info, kinds)


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
