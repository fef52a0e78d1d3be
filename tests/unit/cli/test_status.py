"""How the processes of a run are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orderflow.cli.status import ProcessHealth, Seen, probe
from orderflow.local.state import ProcessMark, Running, RunState
from tests.support.shop import Asked, Says, shop


def test_a_process_that_has_ended_is_not_ready() -> None:
    assert not probe(Running("order", "service", os.getpid(), 1.0, "http://127.0.0.1:1"), 1.0).ready


def test_a_service_that_does_not_answer_is_not_ready() -> None:
    mark = ProcessMark.of(os.getpid())
    found = probe(Running("order", "service", mark.pid, mark.started, "http://127.0.0.1:1"), 1.0)
    assert found.words.startswith("http: it does not answer")


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (ProcessHealth(True, {}, 0), "ready"),
        (ProcessHealth(True, {}, 1), "ready, 1 event behind"),
        (ProcessHealth(True, {}, 3), "ready, 3 events behind"),
        (ProcessHealth(False, {"database": "away"}), "database: away"),
    ],
)
def test_health_is_said_in_words(health: ProcessHealth, words: str) -> None:
    assert health.words == words


def test_a_service_says_what_hinders_it_and_how_far_it_is_behind() -> None:
    mark = ProcessMark.of(os.getpid())

    def answer(asked: Asked) -> Says:
        if asked.path == "/ops/lag":
            return Says(200, [{"lag": 2}, {"lag": 3}])
        return Says(503, {"ready": False, "problems": {"database": "away"}})

    with shop(answer) as server:
        found = probe(Running("order", "service", mark.pid, mark.started, server.url), 10.0)

    assert found == ProcessHealth(False, {"database": "away"}, 5)


def test_a_look_says_what_is_not_well_and_why(tmp_path: Path) -> None:
    process = Running("order", "service", 7, 1.0, "http://127.0.0.1:8001")
    found = RunState(
        supervisor=ProcessMark(1, 1.0), phase="ready", processes=(process,), event_log="the log in PostgreSQL"
    )
    ready = Seen(tmp_path, found, [(process, ProcessHealth(True, {}, 0))], "")
    away = Seen(tmp_path, found, [(process, ProcessHealth(False, {"database": "away"}))], "")
    full = Seen(tmp_path, found, [(process, ProcessHealth(True, {}, 0))], "the disk is full")

    assert (ready.well, away.well, full.well) == (True, False, False)
    assert ready.document()["processes"][0]["state"] == "ready"
    assert away.document()["processes"][0]["problems"] == {"database": "away"}
    assert full.document()["problems"] == {"disk": "the disk is full"}
