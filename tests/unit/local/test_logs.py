from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orderflow.local import logs as kept
from orderflow.local.logs import rotate
from orderflow.local.reporter import PlainReporter


def write(folder: Path, **logs: str) -> None:
    for name, content in logs.items():
        (folder / f"{name.replace('_', '-')}.log").write_text(content)


def texts(found: Iterable[kept.LogLine]) -> list[str]:
    return [line.text for line in found]


def test_a_name_means_every_process_of_that_service_and_no_other(tmp_path: Path) -> None:
    write(tmp_path, order="a\n", order_2="b\n", orderly="c\n", payment="d\n")
    (tmp_path / "order.stderr.log").write_text("e\n")
    assert set(kept.find(tmp_path, ("order",))) == {"order", "order-2", "order.stderr"}


def test_without_names_all_logs_that_hold_anything_are_shown(tmp_path: Path) -> None:
    write(tmp_path, order="a\n", payment="")
    assert list(kept.lines(kept.find(tmp_path, ()), 10, follow=False)) == [("order", "a")]


def test_a_log_that_is_not_there_is_one_sentence_with_those_that_are(tmp_path: Path) -> None:
    write(tmp_path, order="a\n")
    with pytest.raises(kept.LogMissingError, match=r"there is no log of kafka in .*; there are: order"):
        kept.find(tmp_path, ("kafka",))


def test_the_last_lines_are_shown_and_then_those_that_come(tmp_path: Path) -> None:
    log = tmp_path / "order.log"
    log.write_text("1\n2\n3\n")
    reader = kept.LogReader("order", log)
    assert texts(reader.kept()) == ["1", "2", "3"]
    with log.open("a") as file:
        file.write("4\nhalf")
    assert texts(reader.added()) == ["4"]
    with log.open("a") as file:
        file.write(" done\n")
    assert texts(reader.added()) == ["half done"]


AT = "2026-11-25"
"""A day; times of day in the logs below are of UTC, but for Kafka's, which are this machine's."""


def several(folder: Path) -> None:
    order = [f'{{"time":"{AT}T03:00:0{second}.000Z","action":"o{second}"}}' for second in (1, 4)]
    payment = [f'{{"time":"{AT}T03:00:0{second}.500Z","action":"p{second}"}}' for second in (0, 2, 5)]
    (folder / "order.log.2").write_text(f"{order[0]}\n")
    write(
        folder,
        order=f"{order[1]}\n",
        payment="".join(f"{line}\n" for line in payment),
        postgres=f"{AT} 03:00:02.100 UTC [7] ERROR:  no\n\tits second line\n",
    )
    (folder / "order.stderr.log").write_text("boom\n")
    os.utime(folder / "order.stderr.log", (0, datetime(2026, 11, 25, 3, 0, 3, tzinfo=UTC).timestamp()))


def test_lines_of_all_logs_are_in_order_of_time(tmp_path: Path) -> None:
    several(tmp_path)
    found = [
        (name, line.rpartition('"action":')[2])
        for name, line in kept.lines(kept.find(tmp_path, ()), 100, follow=False)
    ]
    assert found == [
        ("payment", '"p0"}'),
        ("order", '"o1"}'),
        ("postgres", f"{AT} 03:00:02.100 UTC [7] ERROR:  no"),
        ("postgres", "\tits second line"),
        ("payment", '"p2"}'),
        ("order.stderr", "boom"),
        ("order", '"o4"}'),
        ("payment", '"p5"}'),
    ]


def test_the_last_lines_are_the_last_of_all_and_of_those_that_are_wanted(tmp_path: Path) -> None:
    several(tmp_path)
    logs = kept.find(tmp_path, ())
    assert [name for name, _ in kept.lines(logs, 2, follow=False)] == ["order", "payment"]
    assert [name for name, _ in kept.lines(logs, 1, follow=False, wanted=lambda line: "o1" in line)] == ["order"]
    assert list(kept.lines(logs, 0, follow=False)) == []


def test_what_is_added_while_it_is_followed_is_in_order_of_time(tmp_path: Path) -> None:
    several(tmp_path)
    following = kept.lines(kept.find(tmp_path, ("order", "payment")), 1, follow=True)
    assert "p5" in next(following)[1]
    for name, second in (("order", 9), ("payment", 8)):
        with (tmp_path / f"{name}.log").open("a") as file:
            file.write(f'{{"time":"{AT}T03:00:0{second}.000Z"}}\n')
    assert [next(following)[0], next(following)[0]] == ["payment", "order"]


@pytest.mark.parametrize(
    ("line", "second"),
    [
        (f'{{"time":"{AT}T03:00:01.250Z","level":"info"}}', 1.25),
        (f"{AT} 03:00:01.250 UTC [7226] LOG:  starting", 1.25),
        (f"{AT} 03:00:01 UTC Starting Kafka ...", 1.0),
        ("Traceback (most recent call last):", None),
        ("9999-99-99 99:99:99 UTC nonsense", None),
    ],
)
def test_the_time_of_a_line_is_read_as_its_writer_wrote_it(line: str, second: float | None) -> None:
    begin = datetime(2026, 11, 25, 3, tzinfo=UTC).timestamp()
    found = kept.time_of(line)
    assert (found and found - begin) == second


def test_kafka_writes_the_time_of_this_machine() -> None:
    assert kept.time_of(f"[{AT} 03:00:01,250] INFO x") == datetime(2026, 11, 25, 3, 0, 1, 250_000).timestamp()  # noqa: DTZ001  (as Kafka has it)


def test_following_goes_on_after_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "order.log"
    log.write_text("old line, long\n")
    reader = kept.LogReader("order", log)
    list(reader.kept())
    log.rename(tmp_path / "order.log.1")
    log.write_text("a new line, longer than the old one\n")
    assert texts(reader.added()) == ["a new line, longer than the old one"]
    log.write_text("")
    assert texts(reader.added()) == []
    log.write_text("n\n")
    assert texts(reader.added()) == ["n"]


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


def test_what_runs_in_the_background_says_when() -> None:
    output = io.StringIO()
    PlainReporter(output, timed=True).step("Starting Kafka")
    assert kept.time_of(output.getvalue()) is not None
    assert output.getvalue().endswith(" UTC Starting Kafka ...\n")


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
