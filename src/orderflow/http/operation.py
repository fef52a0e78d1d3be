"""What a service offers over HTTP: one declared list makes the routes and the OpenAPI document.

With the problems that each may answer (RFC 9457): a problem's `type` leads to a page of the service that explains
it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, cast, get_args, get_type_hints
from uuid import UUID

import msgspec

from orderflow.core.access import ANONYMOUS, OPERATE, READ, Caller, Permission


class Example:
    """Values that the examples of the API documents share: an order on its way to its end."""

    ORDER_ID = "01a217d2-6f78-7561-a100-7ae1a8650d78"
    CUSTOMER = "customer-42"
    SKU = "SKU-ESPRESSO-CUP"
    PAID_BY = "f882441f-7005-5d7f-b93c-cbb503d4142f"
    RESERVED_BY = "4d76315a-9009-5454-8dfe-68731a182459"
    PLACED_AT = "2026-11-26T12:26:36.796960Z"
    PAID_AT = "2026-11-26T12:26:36.883935Z"
    RESERVED_AT = "2026-11-26T12:26:36.917824Z"


DOCS = "/docs"
PROBLEMS = f"{DOCS}/problems"


class ProblemType(NamedTuple):
    """`meaning` is what has happened, `remedy` what the caller can do. Both are plain sentences."""

    name: str
    status: int
    title: str
    meaning: str
    remedy: str

    @property
    def uri(self) -> str:
        """A reference that resolves on the service that gave the answer."""
        return f"{PROBLEMS}/{self.name}"


MALFORMED_REQUEST = ProblemType(
    "malformed-request",
    400,
    "Bad Request",
    "The request breaks a rule of HTTP, its query is not percent-encoded UTF-8, or its body is not JSON in UTF-8.",
    "Correct what `detail` names. The same request will be refused again.",
)
MALFORMED_KEY = ProblemType(
    "malformed-idempotency-key",
    400,
    "Malformed Idempotency-Key",
    "The header Idempotency-Key is malformed: a key is 1 to 255 printable ASCII characters in quotes.",
    'Send a key such as "8e03978e-40d5", or leave the header out.',
)
UNAUTHENTICATED = ProblemType(
    "unauthenticated",
    401,
    "Unauthorized",
    "The request needs a token and has none, or its token is unknown, revoked or expired. Nothing was done.",
    "Send a valid token: `Authorization: Bearer TOKEN`. `orderflow token create --help` explains how to get one; "
    "`orderflow up` has put one for this machine into its home.",
)
FORBIDDEN = ProblemType(
    "forbidden",
    403,
    "Forbidden",
    "The caller is known, but none of its roles may do this. Nothing was done.",
    "Ask someone with a role that `detail` names, or get a token with that role.",
)
CROSS_SITE = ProblemType(
    "cross-site-request",
    403,
    "Cross-Site Request",
    "The browser says that a page of another site made this request. Nothing was done.",
    "Open a page of the service itself. A program should send neither Origin nor Sec-Fetch-Site.",
)
NOT_FOUND = ProblemType(
    "not-found",
    404,
    "Not Found",
    "There is nothing at this path, or what it names does not exist, or no longer exists.",
    "Check the path and the id in it.",
)
METHOD_NOT_ALLOWED = ProblemType(
    "method-not-allowed",
    405,
    "Method Not Allowed",
    "This path exists, but does not accept this method.",
    "Use one of the methods in the header Allow.",
)
REQUEST_TIMEOUT = ProblemType(
    "request-timeout",
    408,
    "Request Timeout",
    "The request did not arrive in time. Nothing was done.",
    "Send the whole request again.",
)
CONFLICT = ProblemType(
    "conflict",
    409,
    "Conflict",
    "The request is valid, but conflicts with the current state. Nothing was done.",
    "Read the current state and decide again.",
)
REQUEST_IN_PROGRESS = ProblemType(
    "request-in-progress",
    409,
    "Request In Progress",
    "An earlier request with the same Idempotency-Key is still being carried out.",
    "Wait for the time in Retry-After, then send the same request again: it gets the answer to the first.",
)
PRECONDITION_FAILED = ProblemType(
    "precondition-failed",
    412,
    "Precondition Failed",
    "The current state does not match If-Match or If-None-Match. Nothing was done.",
    "Read the current state with its ETag and decide again.",
)
CONTENT_TOO_LARGE = ProblemType(
    "content-too-large",
    413,
    "Content Too Large",
    "The body is larger than this service accepts.",
    "Send a smaller body.",
)
UNSUPPORTED_MEDIA_TYPE = ProblemType(
    "unsupported-media-type",
    415,
    "Unsupported Media Type",
    "The body is not declared as application/json, or it has a content-encoding.",
    "Send JSON in UTF-8 as `content-type: application/json`, without a content-encoding.",
)
MISDIRECTED = ProblemType(
    "misdirected-request",
    421,
    "Misdirected Request",
    "The header Host has a name that this service does not answer to. Nothing was done.",
    "Use a name of this machine, or ask the operators to add the name to ORDERFLOW_ALLOWED_HOSTS.",
)
INVALID_REQUEST = ProblemType(
    "invalid-request",
    422,
    "Unprocessable Content",
    "The body, a parameter or a header breaks its schema, or a rule that a schema cannot state.",
    "`errors` names each fault: by `pointer` (RFC 6901) in the body, by `parameter` in path, query and headers.",
)
KEY_REUSED = ProblemType(
    "idempotency-key-reused",
    422,
    "Idempotency-Key Reused",
    "The Idempotency-Key was used before for a different request. Nothing was done.",
    "Use a new key for each order, and the same key only to repeat that order.",
)
EDIT_REFUSED = ProblemType(
    "edit-refused",
    422,
    "Edit Refused",
    "The event's new value was refused; `detail` says why. The event is unchanged.",
    "Look at the event again and correct the value.",
)
CONFIRMATION_REQUIRED = ProblemType(
    "confirmation-required",
    428,
    "Confirmation Required",
    "The request changes data for good or moves money, and lacks a confirmation or a reason.",
    "Let a person decide, then send it with `confirmed: true` and the `reason`.",
)
TOO_MANY_REQUESTS = ProblemType(
    "too-many-requests",
    429,
    "Too Many Requests",
    "This token or address sends more requests per second than its limit. Nothing was done.",
    "Slow down: send the request again after the seconds in Retry-After.",
)
HEADERS_TOO_LARGE = ProblemType(
    "header-fields-too-large",
    431,
    "Request Header Fields Too Large",
    "The request line and headers are larger than this service accepts.",
    "Send fewer or shorter headers.",
)
DEFECT = ProblemType(
    "defect",
    500,
    "Internal Server Error",
    "The service has a defect; its log has the details.",
    "Tell the operators. Unless `detail` says that nothing was stored, check before you send the request again.",
)
NOT_IMPLEMENTED = ProblemType(
    "not-implemented",
    501,
    "Not Implemented",
    "The request uses a part of HTTP that this service does not implement.",
    "Send it without what `detail` names.",
)
UNAVAILABLE = ProblemType(
    "unavailable",
    503,
    "Service Unavailable",
    "The service is starting or stopping, or something it needs (its database, the event log) is away.",
    "Send the request again after the seconds in Retry-After. Repeat an order with the same Idempotency-Key: the "
    "connection to the database may have broken after the order was stored.",
)
ANSWER_OVERDUE = ProblemType(
    "answer-overdue",
    503,
    "Answer Overdue",
    "The service accepted the request but had no answer in time. It may or may not take effect.",
    "Read the current state, or repeat an order with the same Idempotency-Key.",
)
OVERLOADED = ProblemType(
    "overloaded",
    503,
    "Overloaded",
    "The service has as much work as it can handle. Nothing was done.",
    "Slow down: send the request again after the seconds in Retry-After.",
)
VERSION_NOT_SUPPORTED = ProblemType(
    "http-version-not-supported",
    505,
    "HTTP Version Not Supported",
    "The request is not HTTP/1.1 or HTTP/1.0.",
    "Speak HTTP/1.1.",
)

ALL = (
    MALFORMED_REQUEST,
    MALFORMED_KEY,
    UNAUTHENTICATED,
    FORBIDDEN,
    CROSS_SITE,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    REQUEST_TIMEOUT,
    CONFLICT,
    REQUEST_IN_PROGRESS,
    PRECONDITION_FAILED,
    CONTENT_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    MISDIRECTED,
    INVALID_REQUEST,
    KEY_REUSED,
    EDIT_REFUSED,
    CONFIRMATION_REQUIRED,
    TOO_MANY_REQUESTS,
    HEADERS_TOO_LARGE,
    DEFECT,
    NOT_IMPLEMENTED,
    UNAVAILABLE,
    ANSWER_OVERDUE,
    OVERLOADED,
    VERSION_NOT_SUPPORTED,
)
BY_STATUS: Mapping[int, ProblemType] = MappingProxyType({each.status: each for each in reversed(ALL)})
"""What a status means where nothing more exact is said: the first of its types."""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def page(title: str, body: str) -> str:
    """A plain page of HTML. `title` is text, `body` is HTML."""
    return _PAGE.format(title=escape(title), body=body)


def page_of(problem: ProblemType) -> str:
    """Its page."""
    body = f"<p>Status {problem.status}, <code>{problem.uri}</code></p>\n{_sentences(problem)}"
    return page(problem.title, f'{body}\n<p><a href="{PROBLEMS}">All problems</a></p>')


def index() -> str:
    """The page that lists all."""
    parts = [
        f'<h2 id="{each.name}"><a href="{each.uri}">{escape(each.title)}</a></h2>\n'
        f"<p>Status {each.status}</p>\n{_sentences(each)}"
        for each in ALL
    ]
    return page("Problems", "\n".join(parts))


def _sentences(problem: ProblemType) -> str:
    return f"<p>{escape(problem.meaning)}</p>\n<p>What to do: {escape(problem.remedy)}</p>"


Body = TypeVar("Body", bound=msgspec.Struct | None)
Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named text of the request. `type` is what it is converted to (with msgspec, so `Meta` bounds hold).

    A path parameter is always there; one that does not convert is a 404. A query or header parameter that
    does not convert is a 422 that names it; one that is absent is `default`, or a 422 if it is `required`.
    """

    name: str
    where: Literal["path", "query", "header"]
    description: str
    type: Any = str
    default: Any = None
    required: bool = False


def page_limit(most: int, default: int, description: str = "Maximum number to return.") -> Parameter:
    """The query parameter `limit` of a list: 1 to `most` entries, `default` where the caller names none."""
    bounded = Annotated[int, msgspec.Meta(ge=1, le=most)]
    return Parameter("limit", "query", description, bounded, default=default)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that an operation can give.

    `type` None: no body, or for a status from 400 on a problem document (RFC 9457), of one of the types `problems`
    or, where none is named, of the one that the status means. `example` is a value of `type`.
    """

    status: int
    description: str
    type: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    problems: Sequence[ProblemType] = ()
    example: Any = None


@dataclass(slots=True)
class Request(Generic[Body]):
    """What a handler sees: everything in it is validated.

    `body` is the decoded body (None where the operation has no `request` type), `content` its bytes,
    `values` holds every declared parameter by name. `traceparent` (W3C Trace Context) is the caller's or
    a new one; pass it to `context.commands.submit`, and `caller`, who asks. `gone` is done once the client has left:
    who waits long waits for it too. `approves` is the proposal of somebody else that this carries out.
    """

    body: Body
    content: bytes
    values: Mapping[str, Any]
    traceparent: str
    caller: Caller = ANONYMOUS
    gone: asyncio.Future[None] | None = None
    approves: UUID | None = None


@dataclass(slots=True)
class Reply:
    """An answer. `body` is encoded as JSON; `content` gives the bytes themselves instead.

    Names in `headers` are lower case.
    """

    status: int = 200
    body: object = None
    headers: Headers = ()
    content: bytes | None = None
    media_type: bytes = b"application/json"


Method = Literal["GET", "POST", "PUT", "DELETE"]
Handler = Callable[[Request[Any]], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method on one path (`/orders/{order_id}`).

    `summary` is a line, `description` what a caller has to know beyond it; `example` is a body.
    Errors are raised: see `http/problems.py` for the table of exceptions and answers. What the frame itself can
    answer (400, 408, 413, 415, 422, 500, 503) is in the document without being named.
    A `request` may have a `JSON_SCHEMA`: what its schema says beyond its fields.

    `permission`: whose request it may be. Where none is named, to GET is to read, and all else is an operator's.
    """

    method: Method
    path: str
    summary: str
    handler: Handler
    responses: Sequence[Response]
    request: type[msgspec.Struct] | None = None
    parameters: Sequence[Parameter] = ()
    tag: str = ""
    description: str = ""
    example: Any = None
    permission: Permission | None = None

    @property
    def needs(self) -> Permission:
        return self.permission or (READ if self.method == "GET" else OPERATE)

    @property
    def is_for_operators(self) -> bool:
        """Whether it is at the operators' door, and not at the public one."""
        return self.tag in OPERATORS_TAGS


def route(
    line: str,
    handler: Handler,
    *responses: Response,
    tag: str,
    parameters: Sequence[Parameter] = (),
    example: Any = None,
    permission: Permission | None = None,
) -> Operation:
    """`METHOD /path`, answered by a handler whose docstring is the summary and the description of the operation, and
    whose annotation `Request[Body]` says what its body is.
    """
    body = next(get_args(hint)[0] for name, hint in get_type_hints(handler).items() if name != "return")
    method, path = line.split(" ")
    summary, _, description = inspect.cleandoc(handler.__doc__ or "").partition("\n\n")
    return Operation(
        method=cast("Method", method),
        path=path,
        summary=summary.removesuffix("."),
        description=" ".join(description.split()),
        tag=tag,
        handler=handler,
        responses=responses,
        parameters=parameters,
        request=None if body is NoneType else body,
        example=example,
        permission=permission,
    )


OPERATORS_TAGS = frozenset({"health", "operators"})
