"""JSON bodies, read strictly: one meaning, and nothing that a database or a log cannot hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec

from orderflow.observability.text import clean
from orderflow.runtime.problems import FieldError, ProblemError, invalid_body
from orderflow.runtime.text import fault_of, is_plainly_sound

T = TypeVar("T", bound=msgspec.Struct)
Count = Callable[[Any], int]
_WHOLE_BELOW = 10**19
ANY_ITEM = "*"


class StrictDecoder(Generic[T]):
    """Decodes into `body_type`, whose structs all forbid unknown fields (else TypeError, at once).

    Refused besides what msgspec refuses: names given twice, and texts that `runtime/text.py` refuses. To look for
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
                raise ProblemError(400, "the body is empty; JSON in UTF-8 is wanted") from error
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
        raise TypeError(f"{info.cls.__name__} does not forbid unknown fields")
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
