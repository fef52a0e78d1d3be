"""`orderflow doctor`: each check of this machine and of the running system, in the order in which they help."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orderflow.cli.errors import CliError, ExitCode, UnreachableError
from orderflow.cli.output import joined, text
from orderflow.cli.session import Session, client_of, database_url, running_state, session_options
from orderflow.diagnosis.side_by_side import side_by_side
from orderflow.local.errors import LocalError
from orderflow.registry import database_names, service_names
from orderflow.settings import Settings, SettingsError

if TYPE_CHECKING:
    from orderflow.core.postgres.sessions import Connection
    from orderflow.local.state import Running

OK = "ok"
SKIPPED = "skipped"
WARNING = "warning"
FAILED = "failed"
PYTHON_NEEDED = (3, 11)
DISK_NEEDED_MB = 200
DISK_WANTED_MB = 2000
ANSWER_TIMEOUT_S = 2.0
TIMEOUT_S = 5.0
REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\s*>=\s*([0-9.]+))?[^;]*(;.*)?$")
VERSION_WANTED = 15
SKEW_MS_MAX = 2000
LOCKS_AN_EVENT = 40
LOCKS_AN_EVENT_AT_LEAST = 10
CONNECTIONS_WANTED = 100
SERVER = "postgresql"
OPERATORS_PORT = "operators' port of {}"


@click.command()
@session_options
def doctor(session: Session) -> None:
    """Check this machine and the running system, and say what to do about each finding.

    Looks at Python and what is installed, the home and its disk, the ports, PostgreSQL with its limits, tables and
    clock, the services, Java and Maven for a local Kafka, and Kafka if it carries the events. Changes nothing.

    Exit code: 0 nothing failed (there may be warnings), 1 something did.

    \b
    orderflow doctor
    orderflow doctor --json | jq '.checks[] | select(.verdict == "failed")'
    """
    found: list[CheckResult] = []
    for verdict in _checks(session):
        found.append(verdict)
        if not session.out.as_json:
            _show(session, verdict)
    failed = sum(verdict.verdict == "failed" for verdict in found)
    if session.out.as_json:
        session.out.document({"healthy": not failed, "checks": [asdict(verdict) for verdict in found]})
    else:
        session.out.show("", f"{failed} of {len(found)} checks failed" if failed else "Nothing failed")
    if failed:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _checks(session: Session) -> Iterator[CheckResult]:
    given, running = session.settings, session.running
    yield python()
    yield dependencies()
    yield home(given)
    yield disk(given)
    yield from ports(given)
    yield binaries(given)
    yield from databases(given, running)
    yield from services(running)
    yield local_kafka()
    yield from kafka(running)


def _show(session: Session, verdict: CheckResult) -> None:
    styles = {"ok": "green", "skipped": "dim", "warning": "yellow", "failed": "bold red"}
    style = styles[verdict.verdict]
    session.out.show(
        joined(text(f"{verdict.verdict:<8}", style), text(f" {verdict.check:<{_width()}}"), text(verdict.found))
    )
    if verdict.advice and verdict.verdict != "ok":
        session.out.show(text(f"{'':<{_width() + 9}}{verdict.advice}", "dim"))


def _width() -> int:
    """Of the longest check, and a space."""
    return len(OPERATORS_PORT.format(max(service_names(), key=len))) + 1


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`verdict` is ok, skipped (it does not apply, or cannot be told now), warning or failed."""

    check: str
    verdict: str
    found: str
    advice: str = ""


def python() -> CheckResult:
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < PYTHON_NEEDED:
        return CheckResult("python", FAILED, found, "Python 3.11 or newer is needed")
    return CheckResult("python", OK, f"{found} on {sys.platform}")


def dependencies() -> CheckResult:
    """Every package that the project requires, in the version that it requires."""
    wrong = [problem for text in metadata.requires("orderflow") or [] if (problem := _problem_of(text))]
    if wrong:
        return CheckResult("dependencies", FAILED, "; ".join(wrong), "Install the locked versions with: ./run_all.sh")
    return CheckResult("dependencies", OK, "all installed")


def home(settings: Settings) -> CheckResult:
    """Whether it is ours, or can be made."""
    from orderflow.local.home import HARMLESS, Home

    path = settings.home
    if path.exists() and not path.is_dir():
        return CheckResult("home", FAILED, f"{path} is a file", "Choose a folder with --home or ORDERFLOW_HOME")
    existing = _nearest_folder(path)
    if not os.access(existing, os.W_OK | os.X_OK):
        return CheckResult("home", FAILED, f"cannot write to {existing}", "Choose another folder with ORDERFLOW_HOME")
    if not path.exists():
        return CheckResult("home", OK, f"{path} does not exist yet and can be made")
    strangers = [entry.name for entry in path.iterdir() if entry.name not in HARMLESS]
    if strangers and not Home(path).exists():
        return CheckResult(
            "home", FAILED, f"{path} holds something other than Orderflow's data", "Choose another folder"
        )
    return CheckResult("home", OK, str(path))


def disk(settings: Settings) -> CheckResult:
    """The space where the home is."""
    free_mb = shutil.disk_usage(_nearest_folder(settings.home)).free // 1_000_000
    found = f"{free_mb} MB free at {settings.home}"
    if free_mb < DISK_NEEDED_MB:
        return CheckResult("disk", FAILED, found, f"At least {DISK_NEEDED_MB} MB are needed; free some space")
    if free_mb < DISK_WANTED_MB:
        return CheckResult("disk", WARNING, found, "PostgreSQL stops when it is full; free some space")
    return CheckResult("disk", OK, found)


def ports(settings: Settings) -> Iterator[CheckResult]:
    """Whether each service's ports are free, or held by our service."""
    state = running_state(settings)
    processes = state.processes if state else ()
    held = {address: each for each in processes for address in (each.address, each.ops_address)}
    for service in service_names():
        public = (f"port of {service}", settings.service_port(service), settings.host, "PORT")
        ops = (OPERATORS_PORT.format(service), settings.service_ops_port(service), settings.ops_host, "OPS_PORT")
        for check, port, host, name in (public, ops):
            own = held.get(f"http://{host}:{port}")
            yield _port(settings, service, check, port, host, f"ORDERFLOW_{service.upper()}_{name}", own)


def _port(
    settings: Settings, service: str, check: str, port: int, host: str, setting: str, own: Running | None
) -> CheckResult:
    from orderflow.local.processes import require_free

    if settings.given_url(service) is not None:
        return CheckResult(check, SKIPPED, "the service is elsewhere")
    if own is not None:
        return CheckResult(check, OK, f"{port} is held by our {own.name} (process {own.pid})")
    if port == 0 or _answers_as_ours(settings, service):
        return CheckResult(check, OK, "any free one" if port == 0 else f"{port} is held by a service of Orderflow")
    try:
        require_free(port, service, setting, host)
    except LocalError as error:
        return CheckResult(check, FAILED, str(error), f"Stop that program, or set {setting} to another port")
    return CheckResult(check, OK, f"{port} is free")


def _answers_as_ours(settings: Settings, service: str) -> bool:
    """A service of Orderflow, and where the home knows whose it is, of the same installation."""
    try:
        with client_of(settings, service, timeout_s=ANSWER_TIMEOUT_S) as client:
            return "alive" in client.get("/health/live")
    except (CliError, TypeError):
        return False


def _nearest_folder(path: Path) -> Path:
    return next((each for each in (path, *path.parents) if each.is_dir()), Path("/"))


def _problem_of(requirement: str) -> str:
    parts = REQUIREMENT.match(requirement)
    marker = parts[3] or "" if parts else ""
    if parts is None or "extra" in marker or ("Windows" in marker and sys.platform == "win32"):
        return ""
    name, wanted = parts[1], parts[2] or "0"
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is not installed"
    return "" if _numbers(found) >= _numbers(wanted) else f"{name} is {found}, needs {wanted} or newer"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version.split("+", maxsplit=1)[0])[:3]]


def binaries(settings: Settings) -> CheckResult:
    """The programs of the embedded server."""
    from orderflow.local.postgres import find_binaries

    if not settings.embedded:
        return CheckResult("embedded postgresql", SKIPPED, "an existing server is used")
    try:
        return CheckResult("embedded postgresql", OK, f"its programs are in {find_binaries().folder}")
    except LocalError as error:
        return CheckResult("embedded postgresql", FAILED, str(error), "Install the dependencies with: ./run_all.sh")


def databases(given: Settings, running: Settings) -> Iterator[CheckResult]:
    """Every database of this system. `running` are the settings with the addresses of what runs here."""
    if running.embedded:
        at_fault = running_state(given) is not None
        yield CheckResult(
            SERVER,
            FAILED if at_fault else SKIPPED,
            "the embedded server is not running",
            "See its log with: orderflow logs postgres" if at_fault else f"Start it with: {given.command('up')}",
        )
        return
    yield from asyncio.run(_databases(running, external=not given.embedded))


async def _databases(settings: Settings, *, external: bool) -> list[CheckResult]:
    found: list[CheckResult] = []
    seen_servers: set[tuple[object, ...]] = set()
    for name in database_names():
        found.extend([verdict async for verdict in _database(settings, name, seen_servers, external)])
    return found


async def _database(
    settings: Settings, name: str, seen: set[tuple[object, ...]], external: bool
) -> AsyncIterator[CheckResult]:
    import asyncpg

    from orderflow.core.postgres.sessions import connect, leave
    from orderflow.core.store import DataRefusedError, SchemaBehindError, StoreUnavailableError

    if (name == "log" and settings.transport == "kafka") or (name == "keys" and not settings.keeps_keys):
        return
    check = f"database of {name}"
    try:
        connection = await connect(database_url(settings, name), application_name="orderflow doctor", writable=False)
    except (
        StoreUnavailableError,
        SchemaBehindError,
        DataRefusedError,
        SettingsError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
    ) as error:
        setting = f"ORDERFLOW_{name.upper()}_DATABASE_URL or ORDERFLOW_DATABASE_URL"
        yield CheckResult(check, FAILED, f"cannot be reached: {error}", f"Is the server up, and is {setting} right?")
        return
    try:
        facts = await _facts(connection)
        if (server := (facts["address"], facts["port"], facts["started"])) not in seen:
            seen.add(server)
            for verdict in server_verdicts(facts, settings.batch_max, external=external):
                yield verdict
        yield await _schema(connection, check, name)
    except asyncpg.PostgresError as error:
        yield CheckResult(check, FAILED, f"cannot be queried: {error}", "Does its role have an owner's rights?")
    finally:
        await leave(connection)


async def _facts(connection: Connection) -> dict[str, object]:
    """What the server says of itself. `skew_ms`: its clock less ours, at the middle of the question."""
    from orderflow.core.postgres.queries import load_queries

    query = load_queries("orderflow.cli")["server"]
    await connection.fetchrow(query)
    asked_ms = time.time() * 1000
    row = await connection.fetchrow(query)
    assert row is not None
    facts = dict(row)
    return {**facts, "skew_ms": facts["now_ms"] - (asked_ms + time.time() * 1000) / 2}


def server_verdicts(facts: dict[str, object], batch_max: int, *, external: bool) -> Iterator[CheckResult]:
    """Version and clock; for a server of somebody else its limits too (ours has what it needs)."""
    version, skew_ms = int(str(facts["version"])) // 10_000, float(str(facts["skew_ms"]))
    if version < VERSION_WANTED:
        yield CheckResult(
            SERVER, WARNING, f"version {version}", f"Not tested below {VERSION_WANTED}; the embedded server is 18"
        )
    else:
        yield CheckResult(SERVER, OK, f"version {version} answers")
    if facts.get("read_only"):
        advice = (
            "Orders wait. Is it a standby, or has a failover happened? Name all hosts in the URL: HOST:PORT,HOST:PORT"
        )
        yield CheckResult(SERVER, FAILED, "it is read-only", advice)
    if abs(skew_ms) > SKEW_MS_MAX:
        advice = "Sync both clocks with NTP: order ids use this machine's clock, event times the database's"
        yield CheckResult("clock", WARNING, f"the database's is {skew_ms / 1000:+.1f} s off ours", advice)
    else:
        yield CheckResult("clock", OK, f"the database's is {round(skew_ms):+d} ms off ours")
    if external:
        connections = int(str(facts["max_connections"]))
        locks = int(str(facts["max_locks_per_transaction"])) * (connections + int(str(facts["prepared"])))
        yield _locks(locks, int(str(facts["max_locks_per_transaction"])), batch_max)
        yield _connections(connections)


def _locks(places: int, setting: int, batch_max: int) -> CheckResult:
    found = f"room for {places} (max_locks_per_transaction {setting})"
    advice = "Set max_locks_per_transaction = 256 and restart it: a batch locks every order and SKU that it touches"
    if places < batch_max * LOCKS_AN_EVENT_AT_LEAST:
        return CheckResult("postgresql locks", FAILED, found, advice)
    if places < batch_max * LOCKS_AN_EVENT:
        return CheckResult("postgresql locks", WARNING, found, advice)
    return CheckResult("postgresql locks", OK, found)


def _connections(found: int) -> CheckResult:
    if found < CONNECTIONS_WANTED:
        advice = f"Set max_connections = {CONNECTIONS_WANTED} or more: each process of a service takes up to 20"
        return CheckResult("postgresql connections", WARNING, f"max_connections {found}", advice)
    return CheckResult("postgresql connections", OK, f"max_connections {found}")


async def _schema(connection: Connection, check: str, name: str) -> CheckResult:
    from orderflow.core.postgres.schema import verify
    from orderflow.core.store import SchemaBehindError, StoreUnavailableError
    from orderflow.local.services import sequences_of

    try:
        await verify(connection, sequences_of(name))
    except SchemaBehindError as error:
        said = str(error)
        return CheckResult(
            check, FAILED, said, "" if "restore" in said else "Bring it up to date with: orderflow migrate"
        )
    except StoreUnavailableError as error:
        return CheckResult(check, FAILED, f"cannot be queried: {error}", "Is the server up?")
    return CheckResult(check, OK, "reachable, its tables match this release")


def local_kafka() -> CheckResult:
    """Java and Maven, which only `up --kafka` needs."""
    from orderflow.local.kafka import find_java, missing_for_kafka

    why = missing_for_kafka()
    if why is not None:
        return CheckResult("java and maven", SKIPPED, why, "Only needed for: orderflow up --kafka")
    return CheckResult("java and maven", OK, f"{find_java()}, for: orderflow up --kafka")


def kafka(running: Settings) -> Iterator[CheckResult]:
    """Only where it carries the events."""
    if running.transport == "kafka":
        yield asyncio.run(_ask(running))


async def _ask(settings: Settings) -> CheckResult:
    from orderflow.cli.topic import open_log
    from orderflow.core.transport import TopicMissingError
    from orderflow.local.preparation import all_topics

    where = settings.kafka_bootstrap
    try:
        async with open_log(settings) as log:
            await log.ping()
            await log.ends([topic.name for topic in all_topics(settings)])
    except CliError as error:
        advice = "Is the broker up, and is ORDERFLOW_KAFKA_BOOTSTRAP right?"
        return CheckResult("kafka", FAILED, str(error), advice)
    except TopicMissingError as error:
        return CheckResult("kafka", FAILED, f"answers at {where}, but has no topic {error}", "Run: orderflow migrate")
    return CheckResult("kafka", OK, f"answers at {where} and has every topic")


def services(running: Settings) -> Iterator[CheckResult]:
    """One that is away is a fault only where others are there."""
    verdicts = side_by_side(lambda name: _service(running, name), service_names())
    if all(verdict.verdict == SKIPPED for verdict in verdicts):
        yield CheckResult("services", SKIPPED, "none runs", f"Start them with: {running.command('up')}")
        return
    for verdict in verdicts:
        is_away = verdict.verdict == SKIPPED
        yield CheckResult(verdict.check, FAILED, verdict.found, verdict.advice) if is_away else verdict


def _service(running: Settings, name: str) -> CheckResult:
    check, url = f"service {name}", running.service_url(name)
    try:
        with client_of(running, name, timeout_s=TIMEOUT_S) as client:
            health = client.ask("GET", "/health/ready", good=(503,)).body
    except UnreachableError as error:
        return CheckResult(check, SKIPPED, str(error), f"See why with: orderflow logs {name}")
    except CliError as error:
        return CheckResult(check, FAILED, str(error), f"See why with: orderflow logs {name}")
    problems = health.get("problems") if isinstance(health, dict) else {"answer": "is not understood"}
    if problems:
        said = "; ".join(f"{component}: {problem}" for component, problem in problems.items())
        return CheckResult(
            check, FAILED, said, f"It waits, and carries on by itself; see more with: orderflow logs {name}"
        )
    return CheckResult(check, OK, f"ready at {url}")
