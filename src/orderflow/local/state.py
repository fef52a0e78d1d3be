"""What runs on a home at this moment: noted by its supervisor, looked at, joined and ended by others."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orderflow.local.errors import LocalError
from orderflow.local.home import (
    EventLog,
    Home,
    authority_of,
    database_name,
    database_url,
    kafka_password,
    secrets_of,
    write_json,
)
from orderflow.registry import database_names, service_names
from orderflow.settings import Secret, Settings
from orderflow.settings.readers import HIDDEN, MASTER_KEY_SIZE

if TYPE_CHECKING:
    import psutil

SAME_START_S = 0.5
KAFKA_MECHANISM = "SCRAM-SHA-512"
KAFKA_OPERATOR = "operator"
"""Who makes the topics of our own broker, and reads them: `up`, and the command line."""
STARTING, READY, STOPPING = "starting", "ready", "stopping"
PREFIX = "ORDERFLOW_"
OF_OURS = frozenset({"service", "console"})
"""Kinds of what this project itself runs: it stops before what carries it."""


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process: its id is used again by the system, its id and start time (s since the epoch) are not."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessMark:
        """The mark of a running process. Raises psutil.NoSuchProcess."""
        import psutil

        return cls(pid, psutil.Process(pid).create_time())

    @property
    def runs(self) -> bool:
        """Whether the process still does. Read from proc(5) where there is one: psutil takes long to load."""
        if not sys.platform.startswith("linux"):
            return self.find() is not None
        try:
            state, *_, ticks = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()[:20]
            booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        except (OSError, ValueError, StopIteration):
            return False
        started = int(ticks) / os.sysconf("SC_CLK_TCK") + int(booted.split()[1])
        return state != "Z" and abs(started - self.started) <= SAME_START_S

    def find(self) -> psutil.Process | None:
        """The process, if it still runs."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started) <= SAME_START_S
            runs = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if is_same and runs else None


@dataclass(frozen=True, slots=True)
class Running:
    """A process of ours, of the `kind` "service", "console", "kafka" or "postgres". `address` is for people and
    clients, `ops_address` is where a service answers its operators.
    """

    name: str
    kind: str
    pid: int
    started: float
    address: str
    restarts: int = 0
    ops_address: str = ""

    @property
    def mark(self) -> ProcessMark:
        return ProcessMark(self.pid, self.started)


@dataclass(frozen=True, slots=True)
class Down:
    """What should run and does not; `why` is the last that is known, in words."""

    name: str
    kind: str
    why: str
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class RunState:
    """`processes` is what runs, `down` what should.

    `postgres` is the folder of the socket or HOST:PORT, `bootstrap` the broker's address, if any.
    `event_log` says in words where the events are; `secure`: in our own broker, which wants passwords.
    """

    supervisor: ProcessMark
    phase: str = STARTING
    processes: tuple[Running, ...] = ()
    down: tuple[Down, ...] = ()
    transport: str = "postgres"
    event_log: str = ""
    secure: bool = False
    postgres: str | None = None
    bootstrap: str | None = None

    def write(self, path: Path) -> None:
        """Raises LocalError."""
        write_json(path, asdict(self))


def read(path: Path) -> RunState | None:
    """None when there is none, or when it cannot be understood."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        supervisor = ProcessMark(**found.pop("supervisor"))
        processes = tuple(Running(**process) for process in found.pop("processes"))
        down = tuple(Down(**each) for each in found.pop("down", ()))
        found.setdefault("event_log", found.pop("carrier", ""))  # a run of release 0.1.0 wrote "carrier"
        return RunState(supervisor=supervisor, processes=processes, down=down, **found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def attached(settings: Settings) -> Settings:
    """With the broker and the embedded databases of the run on this home; as given where nothing runs.

    Raises LocalError.
    """
    found = running(Home(settings.home))
    return settings if found is None else joining(settings, found)


def joining(settings: Settings, found: RunState) -> Settings:
    """As `attached`, to this run."""
    joined = settings
    if not settings.is_given("transport"):
        joined = dataclasses.replace(joined, transport="kafka" if found.transport == "kafka" else "postgres")
    if found.bootstrap is not None and not settings.is_given("kafka_bootstrap"):
        joined = dataclasses.replace(joined, kafka_bootstrap=found.bootstrap)
    if found.secure and not settings.is_given("kafka_security_protocol"):
        joined = with_own_broker(joined, secure=True)
    secrets = secrets_of(settings.home)
    if found.postgres is None or not settings.embedded or not secrets.path.is_file():
        return joined
    where = found.postgres
    return with_embedded(joined, lambda name: database_url(where, name, name, secrets.password(name)))


def running(home: Home) -> RunState | None:
    """What runs; None when no supervisor does."""
    found = read(home.state)
    return found if found is not None and found.supervisor.runs else None


def with_embedded(settings: Settings, url_of: Callable[[str], str]) -> Settings:
    """The settings with the URLs of the embedded server: `url_of` a database, as its owner."""
    urls = {f"{name}_database_url": Secret(url_of(database_name(name))) for name in database_names()}
    return settings.replaced(**urls)


def with_master_key(settings: Settings) -> Settings:
    """The settings with the home's own master key, where none is given: a home keeps no name of a customer in clear
    text. Raises LocalError.
    """
    if settings.keys_master_key is not None:
        return settings
    made = secrets_of(settings.home).password("orderflow master key", MASTER_KEY_SIZE)
    return settings.replaced(keys_master_key=Secret(made, HIDDEN))


def choose_event_log(
    settings: Settings, remembered: EventLog | None, *, own_broker: bool, secure: bool | None = None
) -> EventLog:
    """`up --kafka`, else what a setting says, else what the home remembers, else the log in PostgreSQL.

    Our own broker stays secure, or not, until somebody says otherwise.
    """
    if own_broker:
        as_before = remembered is not None and remembered.secure
        return EventLog("kafka", secure=as_before if secure is None else secure)
    if not settings.is_given("transport") and remembered is not None:
        return remembered
    if settings.transport == "kafka":
        return EventLog("kafka", settings.kafka_bootstrap)
    return EventLog("postgres")


def with_event_log(settings: Settings, event_log: EventLog) -> Settings:
    """The settings with the event log; our own broker stands where `kafka_bootstrap` says."""
    if event_log.transport == "postgres":
        return dataclasses.replace(settings, transport="postgres")
    bootstrap = event_log.bootstrap or settings.kafka_bootstrap
    found = dataclasses.replace(settings, transport="kafka", kafka_bootstrap=bootstrap)
    return with_own_broker(found, secure=event_log.secure) if event_log.own_broker else found


def with_own_broker(settings: Settings, *, secure: bool) -> Settings:
    """How our own broker is talked to, whatever the settings say of another. Raises LocalError."""
    users = {"": KAFKA_OPERATOR, **{f"{name}_": name for name in service_names()}}
    foreign = [name for name in Settings.meanings() if name.startswith(("kafka_sasl_", "kafka_ssl_"))]
    nothing = dict.fromkeys(
        [*foreign, *(f"{each}kafka_{what}" for each in users for what in ("username", "password"))]
    )
    plain = {**nothing, "kafka_security_protocol": "plaintext", "kafka_options_file": None}
    if not secure:
        return settings.replaced(**plain)
    passwords = {user: Secret(kafka_password(settings.home, user), HIDDEN) for user in users.values()}
    secured = {
        "kafka_security_protocol": "sasl_ssl",
        "kafka_sasl_mechanism": KAFKA_MECHANISM,
        "kafka_ssl_ca_file": authority_of(settings.home) / "ca.pem",
        **{f"{each}kafka_username": user for each, user in users.items()},
        **{f"{each}kafka_password": passwords[user] for each, user in users.items()},
    }
    return settings.replaced(**{**plain, **secured})


def broker_port(settings: Settings) -> int:
    """The port of our own broker. Raises LocalError when `kafka_bootstrap` is not an address of ours."""
    host, _, port = settings.kafka_bootstrap.rpartition(":")
    if host not in {"127.0.0.1", "localhost"} or not port.isdecimal():
        raise LocalError(
            f"a local Kafka listens on 127.0.0.1:PORT, but kafka_bootstrap is {settings.kafka_bootstrap}; to "
            "use an existing broker, add --kafka-bootstrap"
        )
    return int(port)


def settings_environment(settings: Settings, environ: Mapping[str, str], **others: object) -> dict[str, str]:
    """`environ` with the settings that were given or changed, said outright; `others` win.

    Without those that are secret, which `settings_secrets` has: what stands in an environment, others can read.
    """
    inherited = {key: value for key, value in environ.items() if not key.startswith(PREFIX)}
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    values = {entry: getattr(settings, entry) for entry in Settings.meanings() if entry in defaults}
    said = {
        entry: value
        for entry, value in values.items()
        if value is not None and (value != defaults[entry] or settings.sources.get(entry, "default") != "default")
    }
    every = {**settings.services, **said, **others}
    told = {entry: value for entry, value in every.items() if value is not None and not isinstance(value, Secret)}
    return {**inherited, **{PREFIX + key.upper(): _text(value) for key, value in told.items()}}


def settings_secrets(settings: Settings) -> bytes:
    """The secret settings, as a line for the standard input of a command with --secrets-pipe."""
    line = json.dumps({name: secret.reveal() for name, secret in settings.secrets().items()})
    return line.encode() + b"\n"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
