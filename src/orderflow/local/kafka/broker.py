"""The broker's process."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from orderflow.local import folders, leftovers
from orderflow.local.child import Conditions, clean_environment, end, run, spawn
from orderflow.local.errors import LocalError
from orderflow.local.kafka import jars
from orderflow.local.kafka.configuration import Place, server_properties
from orderflow.local.kafka.java import find_java
from orderflow.local.ports import free_port, require_free

LOGGING = Path(__file__).with_name("log4j2.properties")
JVM_OPTIONS = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 15.0
CHECK_EVERY_S = 0.05
STARTED = "Kafka Server started"


def _silent(_: str) -> None:
    return None


class LocalKafka:
    """A broker on 127.0.0.1. `start` is `prepare`, `spawn` and `wait_ready`.

    `port` 0 means any free one, chosen once for this object. Data, jars and configuration live in
    `home`/kafka. `tell` hears of what takes time. `place`: it is one of several.
    """

    def __init__(
        self, home: Path, port: int = 9092, *, tell: Callable[[str], None] = _silent, place: Place | None = None
    ) -> None:
        self._folder = home.absolute() / "kafka"
        self._data = self._folder / "data"
        self._configuration = self._folder / "server.properties"
        self._process_file = self._folder / "process.json"
        self._log = home.absolute() / "logs" / "kafka.log"
        self._log_start = 0
        self._java = Path()
        self._tell = tell
        self._controller_port = 0
        self._place = place
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self._log

    def start(self) -> None:
        """Return when it serves clients: 4 s, and some 10 s more the first time. Raises LocalError."""
        self.prepare()
        self.spawn()
        self.wait_ready()

    def prepare(self) -> None:
        """Fetch the jars and format the storage where missing, end what an earlier life left.

        Raises LocalError: no Java or Maven, no network, no right, no space.
        """
        self._java = find_java()
        folders.make(self._folder)
        folders.require_writable(self._folder)
        folders.make(self._log.parent)
        jars.fetch(self._folder, self._tell)
        leftovers.end_recorded(self._process_file)
        self._controller_port = free_port()
        self._configure()
        if not (self._data / "meta.properties").is_file():
            folders.require_room(self._folder)
            self._tell("Formatting Kafka's storage")
            self._format()

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the broker's process, from the main thread. Raises LocalError."""
        require_free(self.port, "Kafka", "the port of kafka_bootstrap")
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        self.process = spawn(
            self._command("kafka.Kafka", str(self._configuration)),
            log=self._log,
            cwd=self._folder,
            environment=_environment(),
            conditions=Conditions(death_signal=signal.SIGTERM),
        )
        leftovers.record(self._process_file, self.process.pid)
        return self.process

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when it has said that it started and its port answers. Raises LocalError."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise LocalError(f"Kafka did not start: {explain(self._said())}; its log is {self._log}")
            if STARTED in self._said() and self._answers():
                return
            time.sleep(CHECK_EVERY_S)
        raise LocalError(f"Kafka was not ready within {timeout_s:.0f} s; its log is {self._log}")

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop in good order. Idempotent."""
        if self.process is not None:
            end(self.process, [(signal.SIGTERM, timeout_s)])
        self.process = None
        self._process_file.unlink(missing_ok=True)

    def _command(self, program: str, *arguments: str) -> list[str]:
        classes = str(self._folder / "libs" / "*")
        logging = f"-Dlog4j2.configurationFile={LOGGING.as_uri()}"
        return [str(self._java), *JVM_OPTIONS, logging, "-cp", classes, program, *arguments]

    def _configure(self) -> None:
        text = server_properties(self._data, self.port, self._controller_port, self._place)
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

    def _said(self) -> str:
        """What the log says of the present life."""
        try:
            with self._log.open("rb") as file:
                file.seek(self._log_start)
                return file.read(1_000_000).decode(errors="replace")
        except OSError:
            return ""

    def _answers(self) -> bool:
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
