"""`python -m orderflow.simulation`."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from orderflow.simulation import __main__ as program
from orderflow.simulation.code import Code
from orderflow.simulation.run import Run, run
from tests.simulation.bugs import DedupesApartEngine


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(program.main, arguments)
    return result.exit_code, result.output


def test_one_seed_is_replayed_and_shown() -> None:
    code, shown = invoke("--seed", "3", "--trace")
    assert code == 0
    assert "seed 3: all promises were kept" in shown
    assert run(3).trace.digest() in shown
    assert run(3).trace.lines()[0] in shown


def test_many_seeds_are_summed_up() -> None:
    code, shown = invoke("--seeds", "0..5")
    assert code == 0
    assert shown.startswith("5 seeds, ")
    assert shown.endswith("all promises were kept\n")


def test_a_failing_seed_is_explained_and_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_bug(seed: int) -> Run:
        return run(seed, Code(engine=DedupesApartEngine))

    monkeypatch.setattr(program, "run", with_bug)
    code, shown = invoke("--seeds", "0..40")
    assert code == 1
    failing = shown.strip().rsplit(": ", 1)[1].split()
    assert f"replay: python -m orderflow.simulation --seed {failing[0]}" in shown
    assert invoke("--seed", failing[0])[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [(), ("--seed", "1", "--seeds", "0..2"), ("--seeds", "5..2"), ("--seeds", "x"), ("--seeds", "0..2", "--trace")],
)
def test_wrong_usage_is_refused(arguments: tuple[str, ...]) -> None:
    code, shown = invoke(*arguments)
    assert code == 2
    assert "Error: " in shown


def test_help_has_examples() -> None:
    code, shown = invoke("--help")
    assert code == 0
    assert "--seeds 0..500" in shown
