"""One reading of a request or none, however its bytes are cut."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from orderflow.http.framing import FramingLimits, Head, RefusedRequestError, RequestReader

LIMITS = FramingLimits(head_max=600, fields_max=20, body_max=100, overhead_max=200)
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
GET = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
Read = tuple[str, str, bytes]


def read(*parts: bytes) -> tuple[list[Read], int]:
    """All requests of a connection (method, path, body), and the status of the refusal, 0 if there was none."""
    reader, found, head = RequestReader(LIMITS), list[Read](), None
    for part in parts:
        reader.feed(part)
        try:
            while True:
                head = head or reader.head()
                body = reader.body(head) if head is not None else None
                if head is None or body is None:
                    break
                found.append((head.method, head.path, body))
                if not head.keep_alive:
                    return found, 0
                head = None
        except RefusedRequestError as error:
            return found, error.status
    return found, 0


def one(content: bytes) -> Head:
    reader = RequestReader(LIMITS)
    reader.feed(content)
    head = reader.head()
    assert head is not None
    return head


def post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST /p HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n" + body


TAKEN = [
    (GET, [("GET", "/next", b"")]),
    (b"\r\n\r\n" + GET, [("GET", "/next", b"")]),
    (GET + GET, [("GET", "/next", b"")] * 2),
    (GET + b"\r\n" + GET, [("GET", "/next", b"")] * 2),
    (b"GET http://a.b:1/p/%C3%A9?q=1 HTTP/1.1\r\nHost: x\r\n\r\n", [("GET", "/p/\u00e9", b"")]),
    (b"GET HTTP://a HTTP/1.1\r\nHost: x\r\n\r\n", [("GET", "/", b"")]),
    (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", [("OPTIONS", "*", b"")]),
    (b"GET / HTTP/1.0\r\n\r\n", [("GET", "/", b"")]),
    (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", [("GET", "/", b"")]),
    (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", [("GET", "/", b"")]),
    (post(b"Content-Length: 3\r\n", b"abc") + GET, [("POST", "/p", b"abc"), ("GET", "/next", b"")]),
    (post(b"Content-Length: 0\r\n") + GET, [("POST", "/p", b""), ("GET", "/next", b"")]),
    (
        post(b"Transfer-Encoding:\tChunked \r\n", b'3\r\nabc\r\n0a;x="y"\r\n0123456789\r\n0\r\nHost: y\r\n\r\n')
        + GET,
        [("POST", "/p", b"abc0123456789"), ("GET", "/next", b"")],
    ),
    # An upgrade is passed over: what follows is the body, and after it the next request.
    (post(H2C + b"Content-Length: 3\r\n", b"abc") + GET, [("POST", "/p", b"abc"), ("GET", "/next", b"")]),
    (
        post(H2C + b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n") + GET,
        [("POST", "/p", b"abc"), ("GET", "/next", b"")],
    ),
    (post(H2C) + GET, [("POST", "/p", b""), ("GET", "/next", b"")]),
    (
        post(b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: %d\r\n" % len(GET), GET) + GET,
        [("POST", "/p", GET), ("GET", "/next", b"")],
    ),
    (
        post(b"Upgrade: x\r\nConnection: a\r\nConnection: Upgrade\r\nContent-Length: %d\r\n" % len(GET), GET),
        [("POST", "/p", GET)],
    ),
]
BAD_ENDS_OF_PATHS = b"%0a|%0D|%00|%7F|%C2%85|%E2%80%AE|%E2%80%A8|%ff|%|%0".split(b"|")
BAD_HOSTS = b"a b|a/b|u@h|a:b|a:99999|a:1:2|a,b|[::1|a\\b|\xc3\xa9|http://a|a?b|a#b|a%zz".split(b"|")
BAD_LENGTHS = b"|+3|-3|3.0|0x3|3, 3|3 3|\xb2".split(b"|")
BAD_CODINGS = b"|gzip|identity|chunked, gzip|chunked, chunked|xchunked|chunked;q=1|\x0bchunked|'chunked'".split(b"|")
BAD_FIELDS = (
    b"A : b| A: b|A: b\r\n c|A|: b|A: b\0|A: b\rc|A: b\nc: d|A\xe9: b|A: \x7f|(: b|X: \rTransfer-Encoding: chunked"
).split(b"|")
BAD_CHUNKS = (
    b"\r\n|x\r\n|-1\r\n|0x3\r\nabc\r\n|3 \r\nabc\r\n| 3\r\nabc\r\n|3\nabc\r\n|3;a\nb\r\nabc\r\n|3\r\nabcd\r\n"
    b"|3\r\nabc\n0\r\n\r\n|3\r\nabc0\r\n\r\n|0\r\nA : b\r\n\r\n|0\r\nA: b\n\r\n|0\r\n A: b\r\n\r\n|"
    b"11111111111111111\r\n"
).split(b"|")
REFUSED = [
    (b"nonsense\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    (b"GET /\r\n", 400),
    (b"GET / HTTP/1.1\n", 400),
    (b"GET /\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 400),
    (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
    (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /#f HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET p HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET http:///p HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET http://u@h/p HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n" + GET, 501),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505),
    *((b"GET /orders%b HTTP/1.1\r\nHost: x\r\n\r\n" % end, 400) for end in BAD_ENDS_OF_PATHS),
    # Host (RFC 9112, 3.2)
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nhOST:\r\n\r\n", 400),
    (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    *((b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host, 400) for host in BAD_HOSTS),
    # How long the body is (RFC 9112, 6)
    (post(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), 400),
    (post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"), 400),
    *((post(b"Content-Length: %b\r\n" % told), 400) for told in BAD_LENGTHS),
    (post(b"Content-Length: 101\r\n"), 413),
    (post(b"Content-Length: " + b"9" * 400 + b"\r\n"), 413),
    (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 501),
    (post(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), 501),
    *((post(b"Transfer-Encoding: %b\r\n" % coding, b"0\r\n\r\n"), 400) for coding in BAD_CODINGS),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    # Fields, then chunks
    *((post(field + b"\r\n"), 400) for field in BAD_FIELDS),
    *((post(b"Transfer-Encoding: chunked\r\n", chunks), 400) for chunks in BAD_CHUNKS),
    (post(b"Transfer-Encoding: chunked\r\n", b"65\r\n"), 413),
    (post(b"Transfer-Encoding: chunked\r\n", b"64\r\n" + b"a" * 100 + b"\r\n1\r\n"), 413),
    (post(b"Transfer-Encoding: chunked\r\n", b"1;" + b"a" * 200 + b"\r\n"), 413),
    (post(b"Transfer-Encoding: chunked\r\n", b"0\r\n" + b"A: b\r\n" * 40), 413),
    (post(b"Transfer-Encoding: chunked\r\n", b"1\r\na\r\n" * 60), 413),
    # Bounds of the head
    (post(b"A: " + b"b" * 600 + b"\r\n"), 431),
    (post(b"A: " + b"b" * 600), 431),
    (b"GET /" + b"a" * 600, 431),
    (post(b"A: b\r\n" * 20), 431),
    (b"\r\n" * 5, 400),
]


@pytest.mark.parametrize(("content", "found"), TAKEN)
def test_what_is_sound_is_read_however_it_is_cut(content: bytes, found: list[Read]) -> None:
    assert read(content) == (found, 0)
    assert read(*(bytes([byte]) for byte in content)) == (found, 0)
    for cut in range(len(content)):
        assert read(content[:cut], content[cut:]) == (found, 0)


@pytest.mark.parametrize(("content", "status"), REFUSED)
def test_what_has_two_readings_or_none_is_refused_however_it_is_cut(content: bytes, status: int) -> None:
    assert read(content) == ([], status)
    assert read(*(bytes([byte]) for byte in content)) == ([], status)
    for cut in range(0, len(content), 3):
        assert read(content[:cut], content[cut:]) == ([], status)


def test_a_head_may_be_as_long_as_its_bound_whatever_stands_before_and_after_it() -> None:
    fixed = len(post(b"A: \r\nContent-Length: 100\r\n"))
    longest = post(b"A: " + b"a" * (LIMITS.head_max - fixed) + b"\r\nContent-Length: 100\r\n")
    assert len(longest) == LIMITS.head_max
    request = longest + b"b" * 100
    for content in (request * 3, b"\r\n" * 4 + request):
        found, status = read(content)
        assert (status, {body for _, _, body in found}) == (0, {b"b" * 100})
        assert read(*(bytes([byte]) for byte in content)) == (found, 0)
    assert read(longest[:-2] + b"x: \r\n\r\n") == ([], 431)


def test_trailers_are_not_headers() -> None:
    reader = RequestReader(LIMITS)
    reader.feed(post(b"Transfer-Encoding: chunked\r\nA: b\r\n", b"0\r\nIdempotency-Key: k\r\nA: c\r\n\r\n"))
    head = reader.head()
    assert head is not None
    assert reader.body(head) == b""
    assert set(head.headers) == {b"host", b"transfer-encoding", b"a"}
    assert head.headers[b"a"] == b"b"


@pytest.mark.parametrize(
    ("content", "keep_alive"),
    [
        (GET, True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: a, Close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: a\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: closed\r\n\r\n", True),
    ],
)
def test_a_connection_goes_on_unless_the_client_says_otherwise(content: bytes, keep_alive: bool) -> None:
    assert one(content).keep_alive is keep_alive


def test_equal_names_are_one_list() -> None:
    assert one(b"GET /?a=%0a HTTP/1.1\r\nHost: x\r\nA: 1\r\nb: 2\r\na:  3\t\r\n\r\n").headers[b"a"] == b"1, 3"


class Oracle:
    """What llhttp makes of the same bytes."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.url, self.body, self.fields = b"", b"", list[tuple[bytes, bytes]]()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.found.append((self.parser.get_method(), self.body))


PIECES = st.sampled_from(
    (
        b"GET|POST| |/a| HTTP/1.1| HTTP/1.0|\r\n|\n|\r|Host: x\r\n|Host: a b\r\n|Content-Length: 3\r\n|"
        b"Content-Length: |Transfer-Encoding: chunked\r\n|Transfer-Encoding: |chunked|,|;|:|abc|"
        b"3\r\nabc\r\n|0\r\n\r\n|0|3|\t|\0|\x80|A: b\r\n|"
        b"POST /a HTTP/1.1\r\nHost: x\r\n|GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
    ).split(b"|")
)


@settings(deadline=None)
@given(st.lists(PIECES, max_size=14), st.integers(1, 9))
@example(
    [b"POST /a HTTP/1.1\r\nHost: x\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n"], 2
)
def test_what_is_read_here_another_reader_reads_alike(pieces: list[bytes], size: int) -> None:
    content = b"".join(pieces)
    found, status = read(content)
    again, status_again = read(*(content[at : at + size] for at in range(0, len(content), size)))
    assert (again, bool(status_again)) == (found, bool(status))
    assume({method for method, _, _ in found} <= {"GET", "POST"})
    oracle = Oracle()
    try:
        oracle.parser.feed_data(content)
    except httptools.HttpParserError:
        assert len(oracle.found) >= len(found), "another reader refuses what is taken here"
    assert [(method.encode(), body) for method, _, body in found] == oracle.found[: len(found)]
