"""Mutation testing of the deciding code: its parts do what they say, and a sample of the mutants is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.mutation.__main__ import (
    BEGIN,
    END,
    GUARANTEES,
    PAGE,
    between,
    main,
    mutants_of,
    problems_of,
    rows,
    scores,
    survived,
)
from tests.mutation.forks import ENDLESS, BrokenForkError, Work, forked
from tests.mutation.judging import Verdict
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.survivors import survivors
from tests.mutation.targets import ROOT, TARGETS


def made(source: str) -> list[str]:
    return [each.name for each in mutants("x.py", "x.py", source)]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("a < b", ["a < b → a <= b", "a < b → a >= b"]),
        ("a and b", ["a and b → a or b", "a and b → b", "a and b → a"]),
        ("not a", ["not a → a"]),
        ("a + 1", ["a + 1 → a - 1", "1 → 2", "1 → 0"]),
        ("f(a, b)", ["f(a, b) → f(b, a)"]),
        ("min(a, b)", ["min(a, b) → max(a, b)"]),
        (
            "f('a', 'b', c)",
            ["f('a', 'b', c) → f('b', c)", "f('a', 'b', c) → f('a', c)", "f('a', 'b', c) → f('a', c, 'b')"],
        ),
        ("f(a=b)", ["f(a=b) → f()"]),
        ("f('a')", []),
        ("f(a=b, c=d)", ["f(a=b, c=d) → f(c=d)", "f(a=b, c=d) → f(a=d, c=b)", "f(a=b, c=d) → f(a=b)"]),
        ("{1: a}", ["{1: a} → {}", "1 → 2", "1 → 0"]),
        ("{b: a, c: d}", ["{b: a, c: d} → {c: d}", "{b: a, c: d} → {b: d, c: a}", "{b: a, c: d} → {b: a}"]),
        ("(a, b)", ["(a, b) → (b,)", "(a, b) → (a,)"]),
        ("[x for x in a if x]", ["[x for x in a if x] → [x for x in a]"]),
        ("a if b else c", ["a if b else c → a if True else c", "a if b else c → a if False else c"]),
    ],
)
def test_an_expression_has_these_mutants(source: str, names: list[str]) -> None:
    assert [name for name in made(f"X = {source}") if "XX" not in name] == names


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("return a", ["f: return a → return None"]),
        ("a()", ["f: a() → pass"]),
        ("a = 1\n    a = b", ["f: 1 → 2", "f: 1 → 0", "f: a = b → pass"]),
        ("a.b = c", ["f: a.b = c → pass"]),
        ("a += b", ["f: a += b → a -= b", "f: a += b → pass"]),
        ("raise E('text')", ["f: raise E('text') → pass"]),
        ("if a:\n        return", ["f: if a: → if True:", "f: if a: → if False:", "f: return → pass"]),
        ("for a in b:\n        continue", ["f: for a in b: → pass", "f: continue → break", "f: continue → pass"]),
        ("match a:\n        case b:\n            return", ["f: case b → case b if False", "f: return → pass"]),
        ("assert a < 1\n    'text'\n    b: int | None", []),
    ],
)
def test_a_statement_has_these_mutants(body: str, names: list[str]) -> None:
    assert made(f"def f(p):\n    {body}\n") == names


def test_what_decides_nothing_has_none() -> None:
    head = "import a\nAlias = dict[str, int]\n@dataclass(frozen=True)\nclass C(B, kind=1):\n    'text'\n    x: int\n"
    assert made(head + "T = TypeVar('T', bound=C)\n") == []


def test_what_else_a_module_calls_has_its_mutants() -> None:
    assert made("T = other('T', bound=C)") == ["other('T', bound=C) → other('T')", "'T' → 'TXX'"]


def test_alike_mutants_of_a_function_are_told_apart_and_each_is_another_program() -> None:
    found = mutants("x.py", "x.py", "def f():\n    return (1, 1)\n")
    twice = [each for each in found if each.after == "2"]
    assert [each.name for each in twice] == ["f: 1 → 2", "f: 1 → 2 (no. 2)"]
    results = set()
    for each in twice:
        names: dict[str, object] = {}
        exec(compile(each.tree(), "x.py", "exec"), names)
        results.add(names["f"]())  # type: ignore[operator]
    assert results == {(2, 1), (1, 2)}


def test_every_mutant_has_a_name_of_its_own_and_every_explained_survivor_is_one() -> None:
    names = Counter((target.file, mutant.name) for target in TARGETS for mutant in mutants_of(target))
    listed = [(each.file, each.name) for each in survivors()]
    assert [name for name, count in names.items() if count > 1] == []
    assert [name for name in listed if name not in names] == []
    assert [name for name, count in Counter(listed).items() if count > 1] == []
    assert all(each.reason.endswith(".") for each in survivors())


def test_every_test_that_judges_is_there() -> None:
    assert [name for target in TARGETS for name in target.tests if not (ROOT / name).is_file()] == []


def test_what_a_fork_does_not_end_is_ended_and_what_breaks_is_no_verdict() -> None:
    def endless() -> str:
        while True:
            pass

    assert dict(forked(iter([Work(1, endless, 0.2), Work(2, lambda: "seen", 5), Work(3, lambda: "", 5)]), 2)) == {
        1: ENDLESS,
        2: "seen",
        3: "",
    }
    with pytest.raises(BrokenForkError, match="ZeroDivisionError"):
        list(forked(iter([Work(1, lambda: str(1 / 0), 5)]), 1))


def test_a_sample_of_the_mutants_is_killed() -> None:
    """In a process of its own, which has imported nothing of the project yet."""
    command = [sys.executable, "-m", "tests.mutation", "--sample", "2", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["survivors"] == []
    groups = len({target.group for target in TARGETS})
    assert found["scores"][-1]["killed"] == found["scores"][-1]["mutants"] == 2 * groups


CODE = "THREE = 3\n\n\ndef is_small(n):\n    return n < THREE\n\n\n"
CODE += "class Box:\n    def __init__(self, n):\n        super().__init__()\n        self.n = n\n"
LAX = """
from orderflow import deciding_toy as toy


def test_it():
    assert toy.is_small(2)
    assert toy.Box(3).n == 3
"""


def test_of_a_boundary_at_which_no_test_looks_the_mutants_live_and_all_others_are_killed(tmp_path: Path) -> None:
    program = f"""
import json, pathlib, sys
import orderflow
folder = pathlib.Path({str(tmp_path)!r})
orderflow.__path__.append(str(folder))
from tests.mutation import judging, targets, mutants
judging.SOURCE = targets.SOURCE = folder
target = targets.Target("deciding_toy.py", "toy", ())
works = [(target, each) for each in mutants.mutants(target.file, str(target.path), target.path.read_text())]
verdicts = judging.judged(works, [str(folder / "test_toy.py")], 2, judging.How.ALL)
print(json.dumps(sorted(each.mutant.name for each in verdicts if not each.killer)))
"""
    (tmp_path / "deciding_toy.py").write_text(CODE)
    (tmp_path / "test_toy.py").write_text(LAX)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        "3 → 4",
        "Box.__init__: super().__init__() → pass",
        "is_small: n < THREE → n <= THREE",
    ]


def some_mutants() -> list[Mutant]:
    target = next(target for target in TARGETS if target.file == "core/retry.py")
    return mutants_of(target)


def verdicts(*lives: str) -> list[Verdict]:
    return [Verdict(each, "" if each.name in lives else "tests/a.py::test_b") for each in some_mutants()]


EXPLAINED = [each.name for each in survivors() if each.file == "core/retry.py" and each.equivalent]


def test_the_score_is_told_with_and_without_equivalents_of_file_group_and_all() -> None:
    found = scores(verdicts(*EXPLAINED))
    assert [each.name for each in found] == ["core/retry.py", "retries", "all"]
    for each in found:
        assert (each.killed, each.equivalent) == (each.mutants - len(EXPLAINED), len(EXPLAINED))
        assert each.share < each.share_of_real == 1.0


def test_what_is_not_explained_or_too_much_or_killed_after_all_is_a_problem() -> None:
    everything = [each.name for each in some_mutants()]
    hole = next(name for name in everything if name not in EXPLAINED)
    assert problems_of(verdicts(*EXPLAINED), is_whole=True) == []
    assert problems_of(verdicts(*EXPLAINED, hole), is_whole=True) == [f"UNEXPLAINED core/retry.py {hole}"]
    assert problems_of(verdicts(*EXPLAINED[1:]), is_whole=True) == [
        f"KILLED AFTER ALL, so tests/mutation/survivors.toml must not name it: core/retry.py {EXPLAINED[0]}"
    ]
    assert problems_of(verdicts(*everything), is_whole=True)[-1] == "TOO FEW of retries are killed: 0.0%"


def test_the_page_has_todays_table_and_survivors_with_their_reasons() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    written = between(page, [*rows(verdicts(*EXPLAINED)), *survived(verdicts(*EXPLAINED))])
    count, lives = len(some_mutants()), len(EXPLAINED)
    assert f"| `core/retry.py` | {count} | {count - lives} | {lives} | " in written
    assert all(f"``{name}``" in written for name in EXPLAINED)
    assert written.startswith(f"before\n{BEGIN}\n\n| |")
    assert written.endswith(f"\n{END}\nafter\n")
    assert "old" not in written
    for kept in (PAGE.read_text("utf-8"), GUARANTEES.read_text("utf-8")):
        assert kept.count(BEGIN) == kept.count(END) == 1
    names = [line.split(" | ")[0] for line in rows(verdicts(), files=False)]
    assert names == ["|", "|---|---|---|---|---|---|", "| **retries**", "| **all**", ""]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["moon"], "moon: wanted is one of"),
        (["--write", "canary"], "--write makes the table of everything"),
        (["--sample", "0"], "0 is not in the range"),
    ],
)
def test_wrong_usage_says_what_is_wanted(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert told in done.output


def test_mutants_are_listed_as_they_stand_in_the_code() -> None:
    done = CliRunner().invoke(main, ["--list", "core/retry.py"])
    assert done.exit_code == 0
    assert "core/retry.py:58 RetryPolicy.again_in_ms" in done.output
    assert "    - attempts >= self.attempts_max\n    + attempts > self.attempts_max  (comparison)" in done.output
