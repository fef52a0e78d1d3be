"""Problem documents (RFC 9457) and the one table from exceptions to them, in words for people."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec

from orderflow.core.access import ForbiddenError
from orderflow.core.engine import DecisionFailedError, OverloadedError
from orderflow.core.operations.model import (
    ConfirmationNeededError,
    EditRefusedError,
    LetterMissingError,
    NoSuchConsumerError,
    RecoveryError,
    ReplayMissingError,
)
from orderflow.core.processor import KeyBusyError
from orderflow.core.service import RefusedError
from orderflow.core.store import StoreUnavailableError
from orderflow.core.transport import TopicMissingError, TransportUnavailableError
from orderflow.http import operation
from orderflow.http.operation import Headers, ProblemType, Reply

Info = msgspec.inspect.Type


_TYPES = MappingProxyType(
    {
        "str": "a text",
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "array": "a list",
        "object": "an object",
        "uuid": "a UUID",
        "datetime": "a time (RFC 3339)",
    }
)
_UNITS = MappingProxyType({"str": "character", "array": "item", "object": "member"})
_OTHERS = MappingProxyType(
    {
        "Invalid UUID": f"expected {_TYPES['uuid']}",
        "Invalid RFC3339 encoded datetime": f"expected {_TYPES['datetime']}",
    }
)
_BOUNDS = MappingProxyType({">=": "at least", "<=": "at most", ">": "more than", "<": "less than"})
_LENGTH = re.compile(r"Expected `(?P<type>str|array|object)` of length (?P<bound>[<>]=) (?P<limit>\d+)")
_SIZE = re.compile(r"Expected `(?P<type>int|float)` (?P<bound>[<>]=?) (?P<limit>\S+)")
_OTHER_TYPE = re.compile(r"Expected `(?P<wanted>[^`]+)`(?:, got `(?P<got>[^`]+)`)?")


def in_words(detail: str, expected: Any) -> str:
    """`detail` is what msgspec, in words of Python, says of a value that is no `expected`.

    A pattern that has a description is replaced by that; an enumeration by its values, if `expected` has only one.
    """
    regex = detail.partition(" matching regex ")[2]
    if regex:
        return f"expected {dict(_patterns(expected)).get(regex, f'a text matching {regex}')}"
    if detail.startswith("Invalid enum value"):
        enumerations = [*_enumerations(expected)]
        return f"invalid value{detail[18:]}" + (f"; expected: {enumerations[0]}" if len(enumerations) == 1 else "")
    if length := _LENGTH.fullmatch(detail):
        plural = "" if length["limit"] == "1" else "s"
        limit = f"{_BOUNDS[length['bound']]} {length['limit']} {_UNITS[length['type']]}{plural}"
        return f"expected {_TYPES[length['type']]} of {limit}"
    if size := _SIZE.fullmatch(detail):
        return f"expected {_TYPES[size['type']]} of {_BOUNDS[size['bound']]} {size['limit']}"
    if other := _OTHER_TYPE.fullmatch(detail):
        got = f", not {_types(other['got'])}" if other["got"] else ""
        return f"expected {_types(other['wanted'])}{got}"
    if field := _FIELD.fullmatch(detail):
        return "the field is missing" if field["is"] == "missing required" else "there is no such field"
    return _OTHERS.get(detail, f"{detail[:1].lower()}{detail[1:]}")


def _types(names: str) -> str:
    """`int | null`: a whole number or null."""
    return " or ".join(_TYPES.get(name, name) for name in names.split(" | "))


def _patterns(expected: Any) -> Iterator[tuple[str, str]]:
    """Every pattern that has a description, as msgspec writes it, and the description."""
    for part in _parts(msgspec.inspect.type_info(expected)):
        if isinstance(part, msgspec.inspect.Metadata) and isinstance(part.type, msgspec.inspect.StrType):
            description = (part.extra_json_schema or {}).get("description")
            if part.type.pattern and description:
                yield repr(part.type.pattern), description


def _enumerations(expected: Any) -> Iterator[str]:
    for part in _parts(msgspec.inspect.type_info(expected)):
        if isinstance(part, msgspec.inspect.EnumType):
            yield ", ".join(str(each.value) for each in part.cls)
        elif isinstance(part, msgspec.inspect.LiteralType):
            yield ", ".join(map(str, part.values))


def _parts(info: Info) -> Iterator[Info]:
    yield info
    inner: tuple[Info, ...] = ()
    if isinstance(info, msgspec.inspect.Metadata):
        inner = (info.type,)
    elif isinstance(info, msgspec.inspect.StructType):
        inner = tuple(field.type for field in info.fields)
    elif isinstance(info, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
        inner = (info.item_type,)
    elif isinstance(info, msgspec.inspect.UnionType):
        inner = info.types
    for each in inner:
        yield from _parts(each)


MEDIA_TYPE = b"application/problem+json"
WAY_TO_ONE = (
    "Send one as `Authorization: Bearer TOKEN`: the command line uses the home's own, and `orderflow token "
    "create` makes others"
)
_UNQUOTABLE = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
STORE_RETRY_S = 2


class FieldError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One wrong thing: `pointer` (RFC 6901) names it in the body, `parameter` among path, query and headers."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457. `type` links to a page of this service that says what happened and what to do."""

    status: int
    title: str
    type: str = "about:blank"
    detail: str | None = None
    instance: str | None = None
    errors: tuple[FieldError, ...] = ()


class ProblemError(Exception):
    """Raised by a handler to answer with a problem document.

    It is of the type `kind`, or of the one that the status means where nothing more exact is said.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: ProblemType | None = None,
        errors: Sequence[FieldError] = (),
        retry_after_s: float | None = None,
        headers: Headers = (),
    ) -> None:
        super().__init__(detail)
        kind = kind or operation.BY_STATUS.get(status)
        self.problem = Problem(
            status=status,
            title=HTTPStatus(status).phrase if kind is None else kind.title,
            type="about:blank" if kind is None else kind.uri,
            detail=detail,
            errors=tuple(errors),
        )
        self.name = "other" if kind is None else kind.name
        retry = () if retry_after_s is None else (retry_after(retry_after_s),)
        self.headers: Headers = (*headers, *retry)


def retry_after(seconds: float) -> tuple[bytes, bytes]:
    """The header (RFC 9110, 10.2.3): whole seconds, at least 1."""
    return b"retry-after", str(max(1, math.ceil(seconds))).encode()


def challenge(error: str = "", description: str = "", scope: str = "") -> tuple[bytes, bytes]:
    """The header that asks for a token, or says what is wrong with the one shown (RFC 6750, 3)."""
    said = {"realm": "orderflow", "error": error, "error_description": description, "scope": scope}
    parts = [f'{name}="{_UNQUOTABLE.sub("", value)}"' for name, value in said.items() if value]
    return b"www-authenticate", f"Bearer {', '.join(parts)}".encode("ascii")


def to_problem(error: BaseException) -> ProblemError | None:
    """The answer to an exception; None when it is nobody's to expect, and 500 is all that can be said."""
    match error:
        case ProblemError():
            return error
        case ForbiddenError():
            return _of_forbidden(error)
        case RefusedError(answer=Problem() as problem):
            refused = ProblemError(problem.status, problem.detail or problem.title)
            refused.problem = problem
            return refused
        case RefusedError():
            return ProblemError(409, str(error))
        case OverloadedError():
            return ProblemError(503, str(error), kind=operation.OVERLOADED, retry_after_s=error.retry_after_s)
        case StoreUnavailableError():
            return ProblemError(503, "the database cannot be reached", retry_after_s=STORE_RETRY_S)
        case TransportUnavailableError() | TopicMissingError():
            missing = isinstance(error, TopicMissingError)
            why = f"the event log has no topic {error}" if missing else "the event log cannot be reached"
            return ProblemError(503, why, retry_after_s=STORE_RETRY_S)
        case DecisionFailedError():
            return ProblemError(500, "the request hit a bug; nothing was stored")
        case RecoveryError() | KeyBusyError():
            return _of_recovery(error)
    return None


def _of_forbidden(error: ForbiddenError) -> ProblemError:
    """RFC 6750, 3.1: without a token nothing is said of one."""
    if error.caller.has_shown_nothing:
        return ProblemError(401, f"{error}. {WAY_TO_ONE}", headers=(challenge(),))
    header = challenge("insufficient_scope", scope=" ".join(sorted(error.needed)))
    return ProblemError(403, str(error), headers=(header,))


def _of_recovery(error: RecoveryError | KeyBusyError) -> ProblemError:
    match error:
        case LetterMissingError() | ReplayMissingError():
            return ProblemError(404, str(error))
        case ConfirmationNeededError():
            return ProblemError(428, str(error))
        case EditRefusedError(misfit=(msgspec.ValidationError() as why, wanted)):
            said = f"the new payload does not fit its type: {invalid_body(why, wanted).problem.detail}"
            return ProblemError(422, said, kind=operation.EDIT_REFUSED)
        case EditRefusedError():
            return ProblemError(422, str(error), kind=operation.EDIT_REFUSED)
        case NoSuchConsumerError():
            return ProblemError(422, str(error))
        case KeyBusyError():
            return ProblemError(503, str(error), retry_after_s=STORE_RETRY_S)
    return ProblemError(409, str(error))


def reply(error: ProblemError, instance: str | None) -> Reply:
    """The problem as an answer to the request for the path `instance` (None: it could not be read)."""
    problem = msgspec.structs.replace(error.problem, instance=error.problem.instance or instance)
    return Reply(problem.status, headers=error.headers, content=encode(problem), media_type=MEDIA_TYPE)


def encode(problem: Problem) -> bytes:
    return msgspec.json.encode(problem)


_PATH = re.compile(r"^(?P<detail>.*?)(?: - at `(?P<key>key in )?\$(?P<path>.*?)`)?$", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>[^\]]*)\]")
_FIELD = re.compile(r"Object (?P<is>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL)


def invalid_body(error: msgspec.ValidationError, expected: type[msgspec.Struct]) -> ProblemError:
    """422 that names the field: msgspec's `$.items[0].quantity` becomes `/items/0/quantity` (RFC 6901)."""
    parts = _PATH.match(str(error))
    assert parts is not None
    steps = [match["name"] or match["index"] for match in _STEP.finditer(parts["path"] or "")]
    field = _FIELD.fullmatch(parts["detail"])
    if field:
        steps.append(field["name"])
    pointer = "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in steps)
    detail = in_words(parts["detail"], expected)
    named = FieldError(detail=detail, pointer=pointer)
    return ProblemError(422, f"{pointer or 'the body'}: {detail}", errors=[named])
