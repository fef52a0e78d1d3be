"""The matrix of crash points: every cell is tried or has a reason, and what is found is told."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from click.testing import CliRunner

from orderflow.core.crash_points import Point
from tests.crashes.__main__ import BEGIN, END, Teller, main, summary, with_table
from tests.crashes.cells import LOGS, REACHES, Cell, Day, day_of, every_cell, part, rounds_of, why_not
from tests.crashes.matrix import Verdict

CELLS = list(every_cell())
REACHABLE = [cell for cell in CELLS if day_of(cell) is not None]
READ = Cell(Point.RELAY_READ, "order", "kafka")


def test_every_point_can_be_reached_by_somebody_and_who_cannot_has_a_reason() -> None:
    assert set(REACHES) == set(Point) == {cell.point for cell in REACHABLE}
    assert all(why_not(cell) for cell in CELLS if day_of(cell) is None)


@pytest.mark.parametrize("log", LOGS)
def test_each_cell_is_played_once_and_nobody_dies_twice_in_a_round(log: str) -> None:
    wanted = [cell for cell in REACHABLE if cell.log == log]
    rounds = rounds_of(wanted)
    assert Counter(cell for _, cells in rounds for cell in cells) == Counter(wanted)
    assert all(day_of(cell) is day for day, cells in rounds for cell in cells)
    assert all(len({cell.service for cell in cells}) == len(cells) for _, cells in rounds)


def test_the_part_that_the_suite_plays_has_every_point_and_every_kind_of_day() -> None:
    chosen = part(CELLS)
    assert {cell.point for cell in chosen} == set(Point)
    assert {day_of(cell) for cell in chosen} == set(Day)
    assert len({(cell.log, cell.service) for cell in chosen if cell.service != "migrate"}) == 8


def test_the_summary_counts_who_died_and_what_broke() -> None:
    verdicts = [Verdict(READ, True), Verdict(READ, False), Verdict(READ, True, ("lost",))]
    assert summary(verdicts) == (
        "1 points, 3 cells (point, service, log): in 2 the process died at its point (exit code 86); "
        "a promise was broken in 1."
    )
    assert [verdict.holds for verdict in verdicts] == [True, False, False]
    assert str(verdicts[1]) == "relay.read at order on kafka: was not reached"


def test_the_table_takes_the_place_of_the_last_one() -> None:
    written = with_table(f"before\n{BEGIN}\nyesterday\n{END}\nafter\n", [Verdict(READ, True)])
    assert "yesterday" not in written
    sentence = "Unsent rows were read; nothing was appended."
    assert f"| `relay.read` | {sentence} | order, on kafka | 1 | all promises hold |" in written
    assert written.startswith("before\n")
    assert written.endswith("-->\nafter\n")


def test_verdicts_are_told_as_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    Teller(1, as_json=True).tell(Verdict(READ, True, ("lost",)))
    told = json.loads(capsys.readouterr().out)
    assert told == {"point": "relay.read", "service": "order", "log": "kafka", "reached": True, "broken": ["lost"]}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "'nowhere' is not one of"),
        (["intent.booked", "--service", "order"], "it asks nobody outside"),
        (["--write", "relay.read"], "--write makes the table of the whole matrix"),
        (["migration.applied", "--service", "order"], "there is no such cell"),
    ],
)
def test_wrong_usage_says_what_is_wanted(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert told in done.output
