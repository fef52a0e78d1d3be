"""Every state of a connection has an end, and a server that is full still answers whom it must. Without sockets: the
test holds the clock and the other end of the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from orderflow.http.application import Application
from orderflow.http.framing import FramingLimits
from orderflow.http.operation import Operation, Reply, Request, Response
from orderflow.http.protocol import READ_AHEAD_MAX, Connection, HttpConnections, HttpLimits, Serving, limits_for
from tests.support.frame import Recorder, open_gate

LIMITS = HttpLimits(
    framing=FramingLimits(body_max=1000),
    idle_s=75,
    head_s=10,
    body_s=10,
    answer_s=120,
    write_s=10,
    write_rate_min=100,
    linger_s=5,
    linger_bytes_max=5000,
    connections_max=3,
    spare=2,
)
GET = b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"
QUICK = b"GET /health/quick HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 200_000
TAGS = {"/hea": "health", "/ops": "operators"}


class Client(asyncio.Transport):
    """The other end: gets what is written, reads it only when told to."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.got = b""
        self.ended = ""
        self.eof = False
        self.reads = True
        self.server_reads = True
        self.unread = 0
        self._paused = False
        self.connection = Connection(world.serving)
        self.connection.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.got += data
        if not self.reads:
            self.unread += len(data)
        if self.unread > 65536 and not self._paused:
            self._paused = True
            self.connection.pause_writing()

    def read(self, size: int) -> None:
        self.unread = max(0, self.unread - size)
        if self._paused and self.unread < 16384:
            self._paused = False
            self.connection.resume_writing()
        if self.ended == "closing" and not self.unread:
            self.abort()

    def send(self, *parts: bytes) -> None:
        for part in parts:
            if not self.ended:
                self.connection.data_received(part)

    def close(self) -> None:
        self.ended = self.ended or "closing"
        if not self.unread:
            self.abort()

    def abort(self) -> None:
        if self.ended != "lost":
            self.ended = "lost"
            self.connection.connection_lost(None)

    def is_closing(self) -> bool:
        return bool(self.ended)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def get_write_buffer_size(self) -> int:
        return self.unread

    def pause_reading(self) -> None:
        self.server_reads = False

    def resume_reading(self) -> None:
        self.server_reads = True

    @property
    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.got.split(b"HTTP/1.1 ")[1:]]

    @property
    def problem(self) -> str:
        detail: str = msgspec.json.decode(self.got.rpartition(b"\r\n\r\n")[2])["detail"]
        return detail


class World:
    """A server's shared parts over a clock that stands still. `/held` answers once `released` is set."""

    def __init__(self, limits: HttpLimits = LIMITS) -> None:
        self.time_s = 1000.0
        self.released = asyncio.Event()
        self.gone: list[str] = []
        self.recorder = Recorder()
        frame = Application(self._operations(), self.recorder.state)
        self.connections = HttpConnections(limits)
        self.serving = Serving(
            application=lambda: frame,
            gate=open_gate(),
            limits=limits,
            connections=self.connections,
            now=lambda: self.time_s,
            date=b"now",
        )

    def _operations(self) -> list[Operation]:
        async def held(request: Request[None]) -> Reply:
            assert request.gone is not None
            released = asyncio.create_task(self._released())
            await asyncio.wait({released, request.gone}, return_when=asyncio.FIRST_COMPLETED)
            released.cancel()
            if request.gone.done():
                self.gone.append("held")
            return Reply(body="held")

        async def quick(_: Request[None]) -> Reply:
            return Reply(body="quick")

        async def large(_: Request[None]) -> Reply:
            return Reply(content=b"x" * LARGE)

        paths = {"/held": held, "/health/quick": quick, "/quick": quick, "/ops/held": held, "/large": large}
        answer = [Response(status=200, description="")]
        return [
            Operation(
                method="GET", path=path, summary="", handler=handler, responses=answer, tag=TAGS.get(path[:4], "")
            )
            for path, handler in paths.items()
        ]

    async def _released(self) -> None:
        await self.released.wait()

    async def pass_time(self, seconds: float) -> None:
        """A second is a look at the deadlines."""
        for _ in range(round(seconds)):
            self.time_s += 1
            self.connections.expire(self.time_s)
            await self.settle()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def answered(self, client: Client, request: bytes = QUICK) -> None:
        client.send(request)
        await self.settle()
        assert client.statuses == [200]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.released.set()
    await world.settle()


async def test_a_connection_without_a_request_gets_408(world: World) -> None:
    client = Client(world)
    await world.pass_time(9)
    assert client.statuses == []
    await world.pass_time(1)
    assert (client.statuses, client.eof) == ([408], True)
    await world.pass_time(5)
    assert client.ended == "lost"


async def test_a_head_that_drips_gets_408(world: World) -> None:
    client = Client(world)
    for byte in GET[:9]:
        client.send(bytes([byte]))
        await world.pass_time(1)
    assert client.statuses == []
    client.send(GET[9:10])
    await world.pass_time(1)
    assert client.statuses == [408]
    assert world.recorder.observed == [("(none)", "other", 408)]


async def test_a_kept_connection_ends_when_it_is_idle_for_too_long(world: World) -> None:
    client = Client(world)
    await world.answered(client)
    await world.pass_time(74)
    assert client.ended == ""
    await world.pass_time(1)
    assert (client.ended, client.statuses) == ("lost", [200])


@pytest.mark.parametrize("stray", [b"\r\n", b"\r\n\r\n"])
async def test_empty_lines_after_an_answer_do_not_keep_a_connection(world: World, stray: bytes) -> None:
    client = Client(world)
    await world.answered(client)
    client.send(stray)
    await world.pass_time(75)
    assert client.ended == "lost"


async def test_empty_lines_again_and_again_do_not_keep_a_connection(world: World) -> None:
    client = Client(world)
    await world.answered(client)
    for _ in range(80):
        client.send(b"\r\n")
        await world.pass_time(1)
    assert client.ended == "lost"


async def test_a_slow_head_on_a_kept_connection_gets_408(world: World) -> None:
    client = Client(world)
    await world.answered(client)
    await world.pass_time(70)
    client.send(b"G")
    await world.pass_time(9)
    assert client.statuses == [200]
    await world.pass_time(1)
    assert client.statuses == [200, 408]


@pytest.mark.parametrize("path", [b"/held", b"/nowhere", b"/docs/files/a.js"])
async def test_a_body_that_drips_gets_408_whatever_the_path(world: World, path: bytes) -> None:
    client = Client(world)
    client.send(b"GET %b HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" % path)
    for _ in range(10):
        client.send(b"a")
        await world.pass_time(1)
    assert (client.statuses, client.problem) == ([408], "the body did not arrive within 10 s")


async def test_a_request_that_is_never_answered_ends(world: World) -> None:
    client = Client(world)
    client.send(GET)
    await world.pass_time(119)
    assert client.statuses == []
    await world.pass_time(1)
    assert client.statuses == [503]
    world.released.set()
    await world.pass_time(5)
    assert (client.statuses, client.ended) == ([503], "lost")


async def test_a_client_that_does_not_read_is_given_up(world: World) -> None:
    client = Client(world)
    client.reads = False
    client.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    await world.settle()
    await world.pass_time(9)
    assert client.ended == ""
    await world.pass_time(1)
    assert client.ended == "lost"


async def test_a_client_that_reads_slowly_but_steadily_is_served(world: World) -> None:
    client = Client(world)
    client.reads = False
    client.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    await world.settle()
    for _ in range(LARGE // 1500):
        client.read(1500)
        await world.pass_time(1)
    assert client.ended == ""
    client.reads = True
    client.read(LARGE)
    client.send(QUICK)
    await world.settle()
    assert client.statuses == [200, 200]


async def test_a_client_that_sends_and_does_not_read_is_not_read_from(world: World) -> None:
    client = Client(world)
    client.reads = False
    client.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    await world.settle()
    client.send(QUICK * (READ_AHEAD_MAX // len(QUICK) + 1))
    await world.settle()
    assert (client.statuses, client.server_reads) == ([200], False)


async def test_a_body_that_comes_while_answers_wait_for_their_reader_is_read_after_it(world: World) -> None:
    client = Client(world)
    client.reads = False
    await world.answered(client)
    client.unread = 65_536
    client.send(QUICK[:-2] + b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n", b"x")
    await world.settle()
    assert client.statuses == [200, 100]
    client.read(65_000)
    await world.settle()
    assert client.statuses == [200, 100, 200]


async def test_a_large_chunk_behind_another_request_is_read_to_its_end() -> None:
    world = World(HttpLimits())
    client = Client(world)
    chunked = b"GET /health/quick HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n" + b"x" * 0x10000
    client.send(GET, chunked + b"\r")
    assert not client.server_reads
    world.released.set()
    await world.settle()
    assert (client.statuses, client.server_reads) == ([200], True)
    client.send(b"\n0\r\n\r\n")
    await world.settle()
    assert client.statuses == [200, 200]


@pytest.mark.parametrize("request_", [b"GET /large HTTP/1.0\r\n\r\n", b"GET /health/quick HTTP/1.0\r\n\r\n"])
async def test_the_last_answer_of_a_connection_does_not_wait_for_ever_for_its_reader(
    world: World, request_: bytes
) -> None:
    client = Client(world)
    client.reads = False
    client.send(request_)
    await world.settle()
    assert (client.statuses, client.ended) == ([200], "closing")
    await world.pass_time(10)
    assert client.ended == "lost"


async def test_answers_that_nobody_reads_do_not_keep_an_idle_connection(world: World) -> None:
    client = Client(world)
    client.reads = False
    await world.answered(client)
    await world.pass_time(75)
    assert client.ended == "closing"
    await world.pass_time(10)
    assert client.ended == "lost"


async def test_who_goes_on_sending_after_a_refusal_is_listened_to_for_a_while(world: World) -> None:
    for sent, seconds in ((b"x" * 6000, 0), (b"x" * 1000, 5)):
        client = Client(world)
        client.send(b"POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n")
        assert (client.statuses, client.eof, client.ended) == ([413], True, "")
        client.send(sent)
        await world.pass_time(seconds)
        assert client.ended == "lost"


async def test_who_waits_long_is_let_go_of_when_the_client_leaves(world: World) -> None:
    client = Client(world)
    client.send(GET)
    await world.settle()
    client.abort()
    await world.settle()
    assert (world.gone, world.serving.tasks) == (["held"], set())


async def test_a_full_server_lets_go_of_who_has_been_quiet_for_longest(world: World) -> None:
    first, second, third = (Client(world) for _ in range(3))
    await world.answered(first)
    third.send(GET[:5])
    fourth = Client(world)
    assert [each.ended for each in (first, second, third, fourth)] == ["", "lost", "", ""]
    fifth = Client(world)
    assert (third.statuses, third.ended) == ([503], "lost")
    Client(world)
    assert (first.ended, fifth.ended) == ("lost", "")


async def test_where_all_are_at_work_others_get_503_but_for_probes_and_operators(world: World) -> None:
    workers = [Client(world) for _ in range(3)]
    for worker in workers:
        worker.send(GET)
    await world.settle()
    other, probe = Client(world), Client(world)
    other.send(b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (other.statuses, other.problem) == ([503], "too many connections")
    assert b"\r\nretry-after: 2\r\n" in other.got
    await world.answered(probe)
    assert (probe.ended, b"connection: close" in probe.got) == ("lost", True)
    world.released.set()
    await world.settle()
    assert [worker.statuses for worker in workers] == [[200]] * 3
    await world.answered(Client(world), b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_the_spare_places_cannot_be_taken_by_silence(world: World) -> None:
    for _ in range(3):
        Client(world).send(GET)
    await world.settle()
    silent = [Client(world) for _ in range(50)]
    assert sum(not each.ended for each in silent) == LIMITS.spare
    await world.answered(Client(world))


async def test_operators_who_take_all_spare_places_hold_the_bound(world: World) -> None:
    for _ in range(3):
        Client(world).send(GET)
    operators = [Client(world) for _ in range(4)]
    for each in operators:
        each.send(b"GET /ops/held HTTP/1.1\r\nHost: x\r\n\r\n")
    await world.settle()
    assert [each.ended for each in operators] == ["lost", "lost", "", ""]
    assert Client(world).ended == "lost"


async def test_a_server_that_stops_finishes_what_has_begun_and_ends_the_rest(world: World) -> None:
    silent, working, sending = (Client(world) for _ in range(3))
    working.send(GET)
    sending.send(QUICK[:10])
    await world.settle()
    world.serving.stopping = True
    stopped = asyncio.create_task(world.connections.shut_down(5))
    await world.settle()
    assert [each.ended for each in (silent, working, sending)] == ["lost", "", ""]
    world.released.set()
    sending.send(QUICK[10:])
    await stopped
    assert [each.statuses for each in (working, sending)] == [[200], [200]]
    assert all(b"connection: close" in each.got for each in (working, sending))
    assert Client(world).ended == "lost"


@pytest.mark.parametrize("files", [256, 1024, 4096, 20_000, 1_000_000])
def test_limits_leave_room_for_the_files_of_others(files: int) -> None:
    limits = limits_for(10_000, files)
    assert limits.connections_max + limits.spare + limits.backlog + 100 <= files
    assert limits.connections_max >= min(10_000, files // 4)
    assert limits_for(50, files).connections_max == 50
    assert limits_for(10_000, None).connections_max == 10_000
