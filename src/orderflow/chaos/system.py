"""The system under test: PostgreSQL, Kafka, and `orderflow up`, all reached through links that can be troubled.

With wall clocks that jump, each steered by a file; monotonic clocks go on. Those of our services jump by a module
that Python loads at its start (`clock_site`): libfaketime stands before the locks of threads as well, and a jump
then holds up Python itself. That of PostgreSQL, which has no threads, by libfaketime. And with a small disk of our
own that can be full: a tmpfs that only we and our children see.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psutil

from orderflow.chaos.plan import BROKER, BROKER_LINK, CLIENT_LINK
from orderflow.chaos.proxy import Address, ProxiedLink
from orderflow.core.transport import Transport
from orderflow.local import preparation, services, state
from orderflow.local.errors import LocalError
from orderflow.local.home import database_name
from orderflow.local.kafka import LocalKafka, Place
from orderflow.local.postgres import EmbeddedPostgres
from orderflow.local.processes import Conditions, free_port
from orderflow.local.state import Running, RunState, with_embedded
from orderflow.local.supervisor import ServerUnit, Supervisor
from orderflow.registry import service_names
from orderflow.runtime.wiring import connect_transport
from orderflow.settings import Settings

CLONE_NEWNS = 0x20000
ROOM_LEFT = 2 * 1024 * 1024
ANSWER_S = 20.0


class NoDiskError(Exception):
    """It cannot be had here; its text says why."""


class SmallDisk:
    """Mounted at `path` in a mount namespace of this process: it is gone with the last process that uses it."""

    def __init__(self, path: Path, megabytes: int) -> None:
        """Raises NoDiskError: not Linux, or no right to mount."""
        if not sys.platform.startswith("linux"):
            raise NoDiskError("a tmpfs of our own needs Linux")
        if os.geteuid() != 0:
            raise NoDiskError("only root may mount a tmpfs")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS) != 0:
            raise NoDiskError(f"no mount namespace of our own: {os.strerror(ctypes.get_errno())}")
        self._path = path
        self._megabytes = megabytes
        _mount("--make-rprivate", "/")
        _mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=711", "tmpfs", str(path))

    def fill(self) -> None:
        """From now on it is full: it shrinks to what is on it. Raises NoDiskError."""
        used = shutil.disk_usage(self._path).used
        _mount("-o", f"remount,size={used + ROOM_LEFT}", str(self._path))

    def free(self) -> None:
        """As large as it was. Raises NoDiskError."""
        _mount("-o", f"remount,size={self._megabytes}m", str(self._path))


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, timeout=ANSWER_S, check=False)  # noqa: S603, S607
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoDiskError(f"mount cannot be run: {error}") from error
    if done.returncode != 0:
        raise NoDiskError(done.stderr.strip() or "mount failed")


FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
NAME = "faketime/libfaketime.so.1"
SITE = Path(__file__).with_name("clock_site")


class JumpingClock:
    """The wall clock of every process that was started with `environment`."""

    def __init__(self, path: Path, environment: dict[str, str]) -> None:
        self._path = path
        self.environment = environment
        self.set(0)

    def set(self, offset_s: int) -> None:
        """So far from the true time from now on (within a second)."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{offset_s:+d}\n", encoding="ascii")
        fresh.chmod(0o644)
        fresh.replace(self._path)


def of_python(path: Path) -> JumpingClock:
    """For Python programs."""
    before = os.environ.get("PYTHONPATH")
    folders = os.pathsep.join([str(SITE), *([before] if before else [])])
    return JumpingClock(path, {"PYTHONPATH": folders, "CHAOS_CLOCK": str(path)})


def of_any(path: Path) -> JumpingClock | None:
    """For other programs; None where there is no libfaketime (Debian, Ubuntu: apt install libfaketime)."""
    preload = next(_libraries(), None) if sys.platform.startswith("linux") else None
    if preload is None:
        return None
    environment = {
        "LD_PRELOAD": str(preload),
        "FAKETIME_TIMESTAMP_FILE": str(path),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }
    return JumpingClock(path, environment)


def clear_leftovers() -> None:
    """Take away what libfaketime leaves in shared memory of processes that were killed."""
    for path in Path("/dev/shm").glob("*faketime_s*"):  # noqa: S108  (its place, not ours)
        _, _, pid = path.name.rpartition("_")
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            with contextlib.suppress(OSError):
                path.unlink()


def _libraries() -> Iterator[Path]:
    for folder in map(Path, FOLDERS):
        yield from (path for path in (folder / NAME, *folder.glob(f"*/{NAME}")) if path.is_file())


READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 300.0
LOOK_EVERY_S = 0.05
UP_AGAIN_AFTER_S = 1.0
LIBS = "libs"
POSTGRES_SETTINGS: Mapping[str, str] = {"max_wal_size": "512MB", "min_wal_size": "80MB"}


class _Notes:
    """What the supervisor of PostgreSQL and Kafka says, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def step(self, text: str) -> None:
        self.note(text)

    def note(self, text: str) -> None:
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def table(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
        self.note(title)

    def close(self) -> None: ...


class System:
    """In `folder`. `without` says of what could not be had here, why: `disk`, `clock`."""

    def __init__(self, folder: Path, *, kafka: bool, brokers: int, disk_mb: int) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.kafka = kafka
        self.without: dict[str, str] = {}
        self.links: dict[str, ProxiedLink] = {}
        self.disk: SmallDisk | None = None
        self.clocks: dict[str, JumpingClock] = {}
        self._notes = _Notes(folder / "chaos.log")
        self._supervisor = Supervisor(self._notes, lambda: None)
        self._make_disk(disk_mb)
        self._make_clocks()
        clock = self.clocks.get("postgres")
        self._server = EmbeddedPostgres(
            folder / "server",
            port=free_port(),
            settings=POSTGRES_SETTINGS,
            environment={} if clock is None else clock.environment,
        )
        self._postgres = ServerUnit(self._server)
        self._gates: list[tuple[int, int]] = []
        self._brokers = self._make_brokers(brokers) if kafka else []
        self._units: dict[str, ServerUnit] = {"postgres": self._postgres}
        self._copies = min(3, brokers)
        self._up: subprocess.Popen[bytes] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._turn = itertools.count()
        self.ports = {name: free_port() for name in service_names()}

    async def start(self) -> None:
        """Return when everything is ready. Raises LocalError."""
        await self._supervisor.start(self._postgres)
        await preparation.make_roles_and_databases(
            self._server.url(), services.databases(), self._server.password, exclusive=True
        )
        await self._open_links()
        for number, broker in enumerate(self._brokers, 1):
            name = BROKER if len(self._brokers) == 1 else f"{BROKER}-{number}"
            self._units[name] = unit = ServerUnit(broker)
            if number > 1:
                first = self.folder / f"{BROKER}-1" / "kafka" / LIBS
                await asyncio.to_thread(_link_tree, first, self.folder / name / "kafka" / LIBS)
            await asyncio.to_thread(broker.prepare)
            unit.name = name
        # A quorum comes up together: none of them is ready alone.
        await self._supervisor.start(*(unit for unit in self._units.values() if unit is not self._postgres))
        self._launch()
        await self._until_ready(READY_TIMEOUT_S)
        self._keeper = asyncio.create_task(self._keep_up())

    async def stop(self) -> None:
        """End everything, in order."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._up is not None and self._up.poll() is None:
            self._up.terminate()
            try:
                await asyncio.to_thread(self._up.wait, STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._up.kill()
        await self._supervisor.stop()
        for link in self.links.values():
            await link.close()
        clear_leftovers()

    def keep_data(self) -> None:
        """Copy what lies on the small disk to where it is still seen when we have ended."""
        if self.disk is not None:
            self.disk.free()
            shutil.copytree(self.folder / "server" / "postgres", self.folder / "server" / "kept")

    def settings(self) -> Settings:
        """By which we look at databases and log, past the links."""
        loaded = Settings.load(environ={}, home=self.home, remember=False, overrides=self._transport_settings())
        return with_embedded(loaded, self._server.service_url)

    @asynccontextmanager
    async def transport(self) -> AsyncIterator[Transport]:
        transport = await connect_transport(self.settings())
        try:
            yield transport
        finally:
            await transport.close()

    def running(self) -> RunState | None:
        """What `up` has noted; None while it does not run."""
        found = state.read(self.home / "state.json")
        return found if found is not None and found.supervisor.runs else None

    def services(self, name: str | None = None) -> list[Running]:
        """The processes of one service, or of all."""
        found = self.running()
        processes = [] if found is None else [each for each in found.processes if each.kind == "service"]
        return [each for each in processes if name in (None, each.name.partition("-")[0])]

    def processes(self, target: str) -> list[psutil.Process]:
        """What a fault strikes; empty when it does not run at this moment."""
        if target == "up":
            return [] if self._up is None or self._up.poll() is not None else [psutil.Process(self._up.pid)]
        if target in service_names():
            return _of([each.pid for each in self.services(target)])
        unit = self._units["postgres" if target == "backend" else target]
        process = unit.process
        return [] if process is None or process.poll() is not None else _of([process.pid])

    def units(self) -> list[str]:
        """PostgreSQL and the brokers, by name."""
        return list(self._units)

    async def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`orderflow ...` on this home, as an operator would."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "orderflow", *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    async def until_whole(self, timeout_s: float, gone: Collection[int] = ()) -> bool:
        """Wait until everything runs that should, others in the place of `gone`; whether that was in time."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not self._is_whole(gone):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(LOOK_EVERY_S)
        return True

    def _is_whole(self, gone: Collection[int] = ()) -> bool:
        found = self.running()
        if found is None or found.phase != state.READY or found.down or self._supervisor.down():
            return False
        pids = {each.pid for each in (*found.processes, *self._supervisor.running())}
        return pids.isdisjoint(gone) and found.supervisor.pid not in gone

    async def _until_ready(self, timeout_s: float) -> None:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not self._is_whole():
            if self._up is not None and self._up.poll() is not None:
                raise LocalError(f"`orderflow up` ended: {self._said()}")
            if asyncio.get_running_loop().time() > deadline:
                raise LocalError(f"the system was not ready within {timeout_s:.0f} s: {self._said()}")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _keep_up(self) -> None:
        """`up` restarts what dies; who restarts `up` are we."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._up is not None and self._up.poll() is not None:
                self._notes.note(f"up ended with {self._up.returncode}; starting it again")
                await asyncio.sleep(UP_AGAIN_AFTER_S)
                self._launch()

    def _launch(self) -> None:
        options = [option for name in service_names() for option in ("--processes", f"{name}=2")]
        tied = Conditions(death_signal=signal.SIGTERM)
        with (self.folder / "up.log").open("ab") as output:
            self._up = subprocess.Popen(  # noqa: S603 - the command is ours
                tied.wrap([sys.executable, "-m", "orderflow", "up", *options]),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _said(self) -> str:
        return " ".join((self.folder / "up.log").read_text(errors="replace").split("\n")[-4:]).strip()

    def _environment(self) -> dict[str, str]:
        """Of `up` and of commands: the links stand where the servers are."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")}
        urls = {f"ORDERFLOW_{name.upper()}_DATABASE_URL": self._linked(name) for name in services.databases()}
        ports = {f"ORDERFLOW_{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        said = {"ORDERFLOW_HOME": str(self.home), "ORDERFLOW_CONSOLE": "false"}
        said["ORDERFLOW_TRANSPORT"] = "kafka" if self.kafka else "postgres"
        if self.kafka:
            said["ORDERFLOW_KAFKA_BOOTSTRAP"] = ",".join(f"127.0.0.1:{link.port}" for link in self.broker_links())
            said["ORDERFLOW_REPLICATION_FACTOR"] = str(self._copies)
        return {**inherited, **urls, **ports, **said, **self.clocks["services"].environment}

    def _transport_settings(self) -> dict[str, object]:
        if not self.kafka:
            return {"transport": "postgres"}
        bootstrap = ",".join(broker.bootstrap for broker in self._brokers)
        return {"transport": "kafka", "kafka_bootstrap": bootstrap, "replication_factor": self._copies}

    def broker_links(self) -> list[ProxiedLink]:
        """One for each broker."""
        return [link for name, link in self.links.items() if name.startswith(BROKER_LINK)]

    def links_of(self, target: str) -> list[ProxiedLink]:
        """What a trouble of the network strikes."""
        return self.broker_links() if target == BROKER_LINK else [self.links[target]]

    def _linked(self, name: str) -> str:
        """The URL of a database, by its link."""
        parts = urlsplit(self._server.service_url(database_name(name)))
        user, _, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}@127.0.0.1:{self.links[f'{name}-database'].port}").geturl()

    async def _open_links(self) -> None:
        host, _, port = self._server.where.rpartition(":")
        database = (host, int(port))
        for name in services.databases():
            self.links[f"{name}-database"] = ProxiedLink(f"{name}-database", partial(_at, database))
        self.links[CLIENT_LINK] = ProxiedLink(CLIENT_LINK, self._some_order_process)
        for link in self.links.values():
            await link.open()
        for number, (gate, told) in enumerate(self._gates, 1):
            name = f"{BROKER_LINK}-{number}"
            self.links[name] = ProxiedLink(name, partial(_at, ("127.0.0.1", gate)))
            await self.links[name].open(told)

    def _some_order_process(self) -> Address | None:
        """One after the other, as a load balancer does it."""
        processes = self.services("order")
        if not processes:
            return None
        parts = urlsplit(processes[next(self._turn) % len(processes)].address)
        return (parts.hostname or "127.0.0.1", parts.port or 0)

    def _make_disk(self, megabytes: int) -> None:
        place = self.folder / "server" / "postgres"
        place.mkdir(parents=True)
        for folder in (self.folder, place.parent, place):
            folder.chmod(0o711)
        try:
            self.disk = SmallDisk(place, megabytes)
        except NoDiskError as error:
            self.without["disk"] = str(error)

    def _make_clocks(self) -> None:
        self.clocks["services"] = of_python(self.folder / "clock-of-services")
        if found := of_any(self.folder / "clock-of-postgres"):
            self.clocks["postgres"] = found
        else:
            self.without["clock"] = "of PostgreSQL: there is no libfaketime here (apt install libfaketime)"

    def _make_brokers(self, count: int) -> list[LocalKafka]:
        controllers = {node: free_port() for node in range(1, count + 1)}
        self._gates = [(free_port(), free_port()) for _ in controllers]
        cluster = str(uuid4())
        return [
            LocalKafka(
                self.folder / (BROKER if count == 1 else f"{BROKER}-{node}"),
                0,
                tell=self._notes.note,
                place=Place(node=node, controllers=controllers, cluster=cluster, gate=gate),
            )
            for node, gate in zip(controllers, self._gates, strict=True)
        ]


def _at(address: Address) -> Address:
    return address


def _of(pids: Sequence[int]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def _link_tree(source: Path, target: Path) -> None:
    """Jars are fetched once for all brokers."""
    if not target.exists():
        shutil.copytree(source, target, copy_function=os.link)


def read_json(text: str) -> object:
    """What a command has answered; None when it is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None
