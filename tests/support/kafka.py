"""A real Apache Kafka for tests: one broker of `orderflow.local.kafka`, its data in the temp folder."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from orderflow.local import kafka
from orderflow.local.kafka import LocalKafka
from orderflow.local.processes import free_port


class KafkaServer:
    """A broker that can be crashed and started again on the same port and data.

    `libs` are its jars. It has a second listener at `behind_gate`, which says that it is at `gate`: a test that
    listens there sees, and can hold back, all that its clients ask.
    """

    def __init__(self, libs: Path) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="orderflow-kafka-"))
        give_jars(libs, self._home)
        self._broker = LocalKafka(self._home, 0)
        self.gate = free_port()
        self.behind_gate = free_port()

    @property
    def bootstrap(self) -> str:
        return self._broker.bootstrap

    def start(self) -> None:
        """Start (or start again) and return when it serves clients. Call it from the main thread."""
        if self._broker.process is None or self._broker.process.poll() is not None:
            self._broker.prepare()
            self._listen_behind_gate()
            self._broker.spawn()
            self._broker.wait_ready()

    def crash(self) -> None:
        """Kill it, as a power cut would (what was flushed stays)."""
        process = self._broker.process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def freeze(self) -> None:
        """It stands still (SIGSTOP), until `go_on`."""
        if self._broker.process is not None:
            self._broker.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        if self._broker.process is not None:
            self._broker.process.send_signal(signal.SIGCONT)

    def drop_records(self, ends: Mapping[tuple[str, int], int]) -> None:
        """Drop what each partition keeps before these offsets, as its retention does."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        before = [TopicPartition(*place, offset) for place, offset in ends.items() if offset]
        for future in admin.delete_records(before).values():
            future.result(timeout=60)

    def _listen_behind_gate(self) -> None:
        path = self._home / "kafka" / "server.properties"
        own = f"PLAINTEXT://{self.bootstrap}"
        gated = "GATED://127.0.0.1:"
        text = path.read_text()
        text = text.replace(f"\nlisteners={own}", f"\nlisteners={own},{gated}{self.behind_gate}")
        text = text.replace(f"\nadvertised.listeners={own}", f"\nadvertised.listeners={own},{gated}{self.gate}")
        text = text.replace("PLAINTEXT:PLAINTEXT,", "PLAINTEXT:PLAINTEXT,GATED:PLAINTEXT,")
        path.write_text(text + "inter.broker.listener.name=PLAINTEXT\n")

    def remove(self) -> None:
        """Stop and delete the data."""
        self.crash()
        shutil.rmtree(self._home, ignore_errors=True)


def missing() -> str | None:
    """Why there can be no broker here, in a sentence; None when there can."""
    return kafka.missing_for_kafka()


def fetch_jars(folder: Path) -> Path:
    """Kafka's jars, kept in the folder from one run to the next; layers that run side by side fetch them once.

    Raises LocalError: no Maven, no network.
    """
    with (folder / "lock").open("wb") as lock:
        if os.name == "posix":
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        return kafka.fetch_jars(folder, lambda _: None)


def give_jars(libs: Path, home: Path) -> None:
    """Leave them in the home as an earlier run would have, so that nothing is fetched for each test."""
    shutil.copytree(libs, home / "kafka" / "libs", copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
