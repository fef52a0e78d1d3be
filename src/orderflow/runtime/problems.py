"""Problem documents (RFC 9457) and the one table from exceptions to them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from http import HTTPStatus

import msgspec

from orderflow.messaging.decision import RefusedError
from orderflow.messaging.engine import DecisionFailedError, OverloadedError
from orderflow.messaging.recovery.errors import (
    ConfirmationNeededError,
    EditRefusedError,
    KeyBusyError,
    LetterMissingError,
    NoSuchConsumerError,
    RecoveryError,
    ReplayMissingError,
)
from orderflow.messaging.store import StoreUnavailableError
from orderflow.messaging.transport import TransportUnavailableError
from orderflow.runtime import problem_types
from orderflow.runtime.operation import Headers, Reply
from orderflow.runtime.problem_types import ProblemType
from orderflow.runtime.wording import in_words

MEDIA_TYPE = b"application/problem+json"
STORE_RETRY_S = 2


class FieldError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One wrong thing: `pointer` (RFC 6901) names it in the body, `parameter` among path, query and headers."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457. `type` leads to a page of this service that says what has happened and what can be done."""

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
        kind = kind or problem_types.BY_STATUS.get(status)
        self.problem = Problem(
            status=status,
            title=HTTPStatus(status).phrase if kind is None else kind.title,
            type="about:blank" if kind is None else kind.uri,
            detail=detail,
            errors=tuple(errors),
        )
        retry = () if retry_after_s is None else (retry_after(retry_after_s),)
        self.headers: Headers = (*headers, *retry)


def retry_after(seconds: float) -> tuple[bytes, bytes]:
    """The header (RFC 9110, 10.2.3): whole seconds, at least 1."""
    return b"retry-after", str(max(1, math.ceil(seconds))).encode()


def to_problem(error: BaseException) -> ProblemError | None:
    """The answer to an exception; None when it is nobody's to expect, and 500 is all that can be said."""
    match error:
        case ProblemError():
            return error
        case RefusedError(answer=Problem() as problem):
            refused = ProblemError(problem.status, problem.detail or problem.title)
            refused.problem = problem
            return refused
        case RefusedError():
            return ProblemError(409, str(error))
        case OverloadedError():
            return ProblemError(503, str(error), kind=problem_types.OVERLOADED, retry_after_s=error.retry_after_s)
        case StoreUnavailableError():
            return ProblemError(503, "the database cannot be reached", retry_after_s=STORE_RETRY_S)
        case TransportUnavailableError():
            return ProblemError(503, "the event log cannot be reached", retry_after_s=STORE_RETRY_S)
        case DecisionFailedError():
            return ProblemError(500, "the request met a defect; nothing was stored")
        case RecoveryError():
            return _of_recovery(error)
    return None


def _of_recovery(error: RecoveryError) -> ProblemError:
    match error:
        case LetterMissingError() | ReplayMissingError():
            return ProblemError(404, str(error))
        case ConfirmationNeededError():
            return ProblemError(428, str(error))
        case EditRefusedError():
            return ProblemError(422, str(error), kind=problem_types.EDIT_REFUSED)
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
_FIELD = re.compile(r"(?:missing required|contains unknown) field `(?P<name>.*)`$", re.DOTALL)


def invalid_body(error: msgspec.ValidationError, wanted: type[msgspec.Struct]) -> ProblemError:
    """422 that names the field: msgspec's `$.items[0].quantity` becomes `/items/0/quantity` (RFC 6901)."""
    parts = _PATH.match(str(error))
    assert parts is not None
    steps = [match["name"] or match["index"] for match in _STEP.finditer(parts["path"] or "")]
    field = _FIELD.search(parts["detail"])
    if field:
        steps.append(field["name"])
    pointer = "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in steps)
    detail = in_words(parts["detail"], wanted)
    named = FieldError(detail=detail, pointer=pointer)
    return ProblemError(422, f"{pointer or 'the body'}: {detail}", errors=[named])
