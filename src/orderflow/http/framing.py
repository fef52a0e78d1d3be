"""HTTP/1.1 requests out of the bytes of a connection (RFC 9112), without any I/O.

A message has one reading here or none: what a proxy in front could read in another way is refused. An `Upgrade` is
passed over (RFC 9110, 7.8): the message is framed as if it were not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from orderflow.http.validation import fault_of

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"
_LINE = _TOKEN + rb" [\x21-\x7e]++ HTTP/[0-9]\.[0-9]"
_FIELD = _TOKEN + rb":" + _VALUE
_HEAD = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])\r\n((?:" + _FIELD + rb"\r\n)*+)\r\n")
_REQUEST_LINE = re.compile(_LINE)
_FIELD_LINE = re.compile(_FIELD)
_NOT_A_HEAD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n")
_FIRST = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]|\r\Z")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[\t ]*;" + _VALUE + rb")?")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[0-9A-Za-z._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})*)(?::([0-9]{0,5}))?")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*)(.*)", re.DOTALL)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_EMPTY_LINES_MAX = 4
_CHUNK_LINE_MAX = 4096
_LENGTH_DIGITS_MAX = 18


class RefusedRequestError(Exception):
    """The connection cannot go on: the answer is `status`, and its text says why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class FramingLimits:
    """Bounds of one request, in bytes. `overhead_max` is for what stands around the data of a chunked body: sizes,
    extensions and trailers.
    """

    head_max: int = 64 * 1024
    fields_max: int = 100
    body_max: int = 64 * 1024
    overhead_max: int = 64 * 1024


class Head(NamedTuple):
    """What stands before the body. `path` is decoded; `headers` has each name once, in lower case, with the values of
    equal names as one list (RFC 9110, 5.3). `length` is None for a chunked body.
    """

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    length: int | None
    keep_alive: bool
    expects_continue: bool


class RequestReader:
    """Takes bytes as they come, and gives one request after the other: its head, then its body, then the next head.

    How the bytes are cut makes no difference to what is read, accepted or refused. Trailers of a chunked body are
    checked and let go of: what comes after the body is not merged into the headers (RFC 9110, 6.5.1).
    """

    def __init__(self, limits: FramingLimits) -> None:
        self._limits = limits
        self._held = bytearray()
        self._seen = 0
        self._empty_lines = 0
        self._parts = bytearray()
        self._overhead = 0
        self._left = -1

    @property
    def held(self) -> int:
        """How many bytes are here that have not been read."""
        return len(self._held)

    def feed(self, data: bytes) -> None:
        self._held += data

    def forget(self) -> None:
        """Drop all that has not been read."""
        self._held.clear()

    def head(self) -> Head | None:
        """The next head; None while it is not whole. Raises RefusedRequestError."""
        held = self._held
        if held[:2] == b"\r\n":
            self._pass_over_empty_lines()
        end = held.find(b"\r\n\r\n", max(0, self._seen - 3))
        if end < 0 or end + 4 > self._limits.head_max:
            self._check_part()
            return None
        content = bytes(held[: end + 4])
        del held[: end + 4]
        self._seen = self._empty_lines = 0
        head = _parse(content, self._limits)
        self._parts.clear()
        self._overhead, self._left = 0, -1
        return head

    def body(self, head: Head) -> bytes | None:
        """The body of the request whose head was read last; None while it is not whole.

        Raises RefusedRequestError.
        """
        if head.length is None:
            return self._chunked_body()
        if head.length > self._limits.body_max:
            raise self._too_large()
        held = self._held
        if len(held) < head.length:
            return None
        content = bytes(held[: head.length])
        del held[: head.length]
        return content

    def _pass_over_empty_lines(self) -> None:
        """RFC 9112, 2.2: empty lines before a request are passed over; here a few."""
        held = self._held
        while held[:2] == b"\r\n":
            del held[:2]
            self._empty_lines += 1
            if self._empty_lines > _EMPTY_LINES_MAX:
                raise RefusedRequestError(400, "too many empty lines before the request")
        self._seen = 0

    def _check_part(self) -> None:
        """Whether what is here can still become a head."""
        held = self._held
        if len(held) >= self._limits.head_max:
            raise RefusedRequestError(431, f"the head of the request is larger than {self._limits.head_max} bytes")
        if held and not _FIRST.match(held):
            raise RefusedRequestError(400, "this is not the beginning of an HTTP request")
        if _NOT_A_HEAD.search(held, max(0, self._seen - 1)):
            raise RefusedRequestError(400, "the head has a control character, or a line that does not end in CRLF")
        line_end = held.find(b"\r\n", max(0, self._seen - 1))
        if line_end >= 0 and held.find(b"\r\n") == line_end and not _REQUEST_LINE.fullmatch(held, 0, line_end):
            raise _bad_request_line()
        self._seen = len(held)

    def _chunked_body(self) -> bytes | None:
        """RFC 9112, 7.1. `_left` is what is missing of a chunk: -1 before its size line, 0 in the trailers."""
        held, at = self._held, 0
        try:
            while True:
                if self._left > 0:
                    if len(held) - at < self._left + 2:
                        return None
                    self._take_chunk(at)
                    at, self._left = at + self._left + 2, -1
                    continue
                line = self._line(at)
                if line is None:
                    return None
                at += len(line) + 2
                self._count(len(line) + 4)
                if self._left < 0:
                    self._left = self._chunk_size(line)
                elif not line:
                    return bytes(self._parts)
                elif not _FIELD_LINE.fullmatch(line):
                    raise RefusedRequestError(400, "a trailer of the body is malformed")
        finally:
            del held[:at]

    def _take_chunk(self, at: int) -> None:
        end = at + self._left
        if self._held[end : end + 2] != b"\r\n":
            raise RefusedRequestError(400, "a chunk of the body is not as long as it says")
        self._parts += self._held[at:end]

    def _chunk_size(self, line: bytes) -> int:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise RefusedRequestError(400, "a chunk of the body has no size that can be read")
        size = int(match[1], 16)
        if len(self._parts) + size > self._limits.body_max:
            raise self._too_large()
        return size

    def _line(self, at: int) -> bytes | None:
        end = self._held.find(b"\r\n", at, at + _CHUNK_LINE_MAX)
        if end >= 0:
            return bytes(self._held[at:end])
        if len(self._held) - at >= _CHUNK_LINE_MAX:
            raise self._too_much_overhead()
        if _NOT_A_HEAD.search(self._held, at):
            raise RefusedRequestError(400, "the body has a line that does not end in CRLF")
        return None

    def _count(self, overhead: int) -> None:
        self._overhead += overhead
        if self._overhead > self._limits.overhead_max:
            raise self._too_much_overhead()

    def _too_large(self) -> RefusedRequestError:
        return RefusedRequestError(413, f"the body is larger than {self._limits.body_max} bytes")

    def _too_much_overhead(self) -> RefusedRequestError:
        return RefusedRequestError(
            413,
            f"sizes, extensions and trailers of the chunked body take more than {self._limits.overhead_max} bytes",
        )


def _parse(content: bytes, limits: FramingLimits) -> Head:
    match = _HEAD.fullmatch(content)
    if match is None:
        raise _what_is_wrong(content)
    method, target, major, minor, block = match.groups()
    if major != b"1":
        raise RefusedRequestError(505, "this service speaks HTTP/1.1")
    lines = block.split(b"\r\n")
    lines.pop()
    if len(lines) > limits.fields_max:
        raise RefusedRequestError(431, f"the request has more than {limits.fields_max} headers")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip(b" \t")
    if len(headers) < len(lines):
        headers = _of_repeated(lines)
    is_1_0 = minor == b"0"
    _check_host(headers, is_1_0=is_1_0)
    path, query, authority = _target(method, target)
    if authority:
        # RFC 9112, 3.2.2: what an absolute target names goes before the header.
        headers[b"host"] = authority
    connection = headers.get(b"connection", b"").lower()
    return Head(
        method.decode("ascii"),
        path,
        query,
        headers,
        _length(headers, is_1_0=is_1_0),
        not (is_1_0 or (b"close" in connection and b"close" in _options(connection))),
        not is_1_0 and headers.get(b"expect", b"").lower() == b"100-continue",
    )


def _what_is_wrong(content: bytes) -> RefusedRequestError:
    line = content.partition(b"\r\n")[0]
    if not _REQUEST_LINE.fullmatch(line):
        return _bad_request_line()
    return RefusedRequestError(
        400, "a header is malformed: expected `name: value`, on one line, without control characters"
    )


def _bad_request_line() -> RefusedRequestError:
    return RefusedRequestError(400, "the request line is malformed: expected `METHOD /path HTTP/1.1`")


def _of_repeated(lines: Sequence[bytes]) -> dict[bytes, bytes]:
    """Raises RefusedRequestError: a header is there twice that must not be a list."""
    parts = [line.partition(b":") for line in lines]
    headers = joined([(name.lower(), value.strip(b" \t")) for name, _, value in parts])
    if sum(name.lower() == b"host" for name, _, _ in parts) > 1:
        raise RefusedRequestError(400, "the header Host is given twice")
    return headers


def joined(fields: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Fields of one name are one list (RFC 9110, 5.3): where one value is wanted, none is chosen silently."""
    joined: dict[bytes, bytes] = {}
    for name, value in fields:
        joined[name] = joined[name] + b", " + value if name in joined else value
    return joined


def _options(value: bytes) -> list[bytes]:
    return [each.strip(b" \t").lower() for each in value.split(b",")]


def _check_host(headers: Mapping[bytes, bytes], *, is_1_0: bool) -> None:
    """RFC 9112, 3.2: exactly one valid Host; HTTP/1.0 may do without."""
    host = headers.get(b"host")
    if host is None:
        if not is_1_0:
            raise RefusedRequestError(400, "the header Host is missing")
    elif not _is_host(host):
        raise RefusedRequestError(400, "the header Host is not a host with or without a port")


def _is_host(value: bytes) -> bool:
    match = _HOST.fullmatch(value)
    return match is not None and int(match[1] or 0) < 65536


def _target(method: bytes, target: bytes) -> tuple[str, bytes, bytes]:
    """Path, query, and the host that an absolute target names.

    RFC 9112, 3.2: origin-form, absolute-form, or `*` with OPTIONS.
    """
    authority = b""
    if method == b"CONNECT":
        raise RefusedRequestError(501, "this is not a proxy: CONNECT is not supported")
    if b"#" in target:
        raise RefusedRequestError(400, "the request target has a fragment")
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is not None and absolute[1] and _is_host(absolute[1]):
            authority = absolute[1]
            target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
        elif (method, target) != (b"OPTIONS", b"*"):
            raise RefusedRequestError(400, "the request target is not a path")
    raw, _, query = target.partition(b"?")
    if b"%" not in raw:
        return raw.decode("ascii"), query, authority
    if _BAD_ESCAPE.search(raw):
        raise RefusedRequestError(400, "the path is not percent-encoded UTF-8")
    try:
        path = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise RefusedRequestError(400, "the path is not percent-encoded UTF-8") from error
    if fault := fault_of(path):
        raise RefusedRequestError(400, f"the path: {fault}")
    return path, query, authority


def _length(headers: Mapping[bytes, bytes], *, is_1_0: bool) -> int | None:
    """RFC 9112, 6: the length that is told, 0 where none is; None for a chunked body."""
    coding, told = headers.get(b"transfer-encoding"), headers.get(b"content-length")
    if coding is not None:
        if told is not None:
            raise RefusedRequestError(400, "a request has Content-Length or Transfer-Encoding, not both")
        codings = _options(coding)
        if is_1_0 or codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
            raise RefusedRequestError(400, "the header Transfer-Encoding leaves open where the body ends")
        if len(codings) > 1:
            raise RefusedRequestError(501, "the only supported transfer coding is chunked")
        return None
    if told is None:
        return 0
    if not told.isdigit():
        raise RefusedRequestError(400, "the header Content-Length is not a single whole number")
    return int(told[:_LENGTH_DIGITS_MAX]) if len(told) <= _LENGTH_DIGITS_MAX else 10**_LENGTH_DIGITS_MAX
