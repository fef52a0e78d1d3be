"""The page on causes has them all, and its table is of a run of every injection that there is."""

from __future__ import annotations

import re

from orderflow.diagnosis.causes import CauseKind
from tests.causes.__main__ import BEGIN, END, PAGE, rows, with_table
from tests.causes.healthy import Busy
from tests.causes.injections import INJECTIONS
from tests.causes.trial import Verdict

SHARE_MIN = 0.95


def table() -> list[str]:
    made = PAGE.read_text("utf-8").split(BEGIN)[1].split(END)[0]
    return [line for line in made.splitlines() if line.startswith("| ")][1:]


def test_every_cause_is_on_the_page() -> None:
    told = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)

    assert sorted(told) == sorted(CauseKind)


def test_the_table_is_of_all_injections_and_the_right_cause_came_first() -> None:
    lines = table()

    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [each.what for each in INJECTIONS]
    assert sum("(wrong)" not in line for line in lines) >= SHARE_MIN * len(lines)


def test_each_injection_has_a_name_of_its_own_and_says_what_it_does() -> None:
    assert len({each.name for each in INJECTIONS}) == len({each.what for each in INJECTIONS}) == len(INJECTIONS) >= 24


def test_a_cause_counts_only_if_no_other_was_named_before_it() -> None:
    wanted = next(each for each in INJECTIONS if each.name == "payment-stopped")
    right = {"kind": "service-away", "service": "payment", "component": "", "why": "gone", "command": "orderflow up"}
    other = {**right, "kind": "behind"}
    at_once, after_another = Verdict(wanted, in_stuck=True), Verdict(wanted, in_stuck=True)

    assert [at_once.see([]), at_once.see([right, other])] == [False, True]
    assert [after_another.see([other]), after_another.see([right])] == [False, True]
    assert (at_once.is_right, after_another.is_right) == (True, False)


def test_the_page_is_written_with_what_was_seen_and_only_between_its_marks() -> None:
    verdict = Verdict(INJECTIONS[0], looks=2)
    verdict.see(
        [{"kind": "behind", "service": "order", "component": "", "why": "a | b <i>", "command": "orderflow lag"}]
    )
    written = with_table(f"before\n{BEGIN}\nold\n{END}\nafter\n", [verdict], Busy(10, 3))

    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "old" not in written
    assert "first in 0 of 1 (0%)" in written
    assert f"| {INJECTIONS[0].what} | `behind` at order (wrong) | a \\| b &lt;i> | `orderflow lag` | 3 |" in written
    assert len(list(rows([verdict]))) == 1
