from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from orderflow.local import viewing
from orderflow.local.errors import LocalError
from orderflow.local.reporter import PlainReporter
from orderflow.local.rotation import rotate


def write(folder: Path, **logs: str) -> None:
    for name, content in logs.items():
        (folder / f"{name.replace('_', '-')}.log").write_text(content)


def test_a_name_means_every_process_of_that_service_and_no_other(tmp_path: Path) -> None:
    write(tmp_path, order="a\n", order_2="b\n", orderly="c\n", payment="d\n")
    (tmp_path / "order.stderr.log").write_text("e\n")
    assert set(viewing.find(tmp_path, ("order",))) == {"order", "order-2", "order.stderr"}


def test_without_names_all_logs_that_hold_anything_are_shown(tmp_path: Path) -> None:
    write(tmp_path, order="a\n", payment="")
    assert list(viewing.lines(viewing.find(tmp_path, ()), 10, follow=False)) == [("order", "a")]


def test_a_log_that_is_not_there_is_one_sentence_with_those_that_are(tmp_path: Path) -> None:
    write(tmp_path, order="a\n")
    with pytest.raises(LocalError, match=r"there is no log of kafka in .*; there are: order"):
        viewing.find(tmp_path, ("kafka",))


def test_the_last_lines_are_shown_and_then_those_that_come(tmp_path: Path) -> None:
    log = tmp_path / "order.log"
    log.write_text("1\n2\n3\n")
    reader = viewing.Reader("order", log)
    assert list(reader.last(2)) == ["2", "3"]
    with log.open("a") as file:
        file.write("4\nhalf")
    assert list(reader.added()) == ["4"]
    with log.open("a") as file:
        file.write(" done\n")
    assert list(reader.added()) == ["half done"]


def test_following_goes_on_after_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "order.log"
    log.write_text("old line, long\n")
    reader = viewing.Reader("order", log)
    list(reader.last(0))
    log.rename(tmp_path / "order.log.1")
    log.write_text("a new line, longer than the old one\n")
    assert list(reader.added()) == ["a new line, longer than the old one"]
    log.write_text("")
    assert list(reader.added()) == []
    log.write_text("n\n")
    assert list(reader.added()) == ["n"]


def test_a_large_log_is_copied_and_emptied_in_place_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    with log.open("a") as writer:
        for round_number in range(4):
            writer.write(f"{round_number}" * 100)
            writer.flush()
            assert rotate(log, max_bytes=50, kept=2)
        writer.write("short")
    assert log.read_text() == "short"
    assert not rotate(log, max_bytes=50, kept=2)
    assert {path.name: path.read_text()[0] for path in tmp_path.iterdir() if path != log} == {
        "postgres.log.1": "3",
        "postgres.log.2": "2",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a file's size are of POSIX")
def test_a_log_that_there_is_no_room_to_copy_stays_with_its_older_ones(tmp_path: Path) -> None:
    import resource

    log = tmp_path / "postgres.log"
    log.write_text("x" * 300)
    (tmp_path / "postgres.log.1").write_text("older")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        assert not rotate(log, max_bytes=50, kept=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: len(path.read_text()) for path in tmp_path.iterdir()} == {
        "postgres.log": 300,
        "postgres.log.1": 5,
    }


def test_away_from_a_terminal_progress_is_plain_lines() -> None:
    output = io.StringIO()
    reporter = PlainReporter(output)
    reporter.step("Starting PostgreSQL")
    reporter.table("Runs", [("order", "http://127.0.0.1:8001", "process 7")])
    assert output.getvalue().splitlines() == [
        "Starting PostgreSQL ...",
        "Runs",
        "  order            http://127.0.0.1:8001  process 7",
    ]
