"""`orderflow simulate`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from orderflow.cli import main
from orderflow.simulation import run as simulator
from orderflow.simulation import survey
from orderflow.simulation.plan import WorldPlan, plan_of
from orderflow.simulation.process import Code
from orderflow.simulation.run import SeedResult, run, run_plan
from tests.simulation.bugs import DedupesApartEngine


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["simulate", *arguments])
    return result.exit_code, result.output


def document(*arguments: str) -> tuple[int, Any]:
    code, said = invoke(*arguments, "--json")
    return code, json.loads(said)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "Code", lambda: Code(engine=DedupesApartEngine))


def test_one_seed_is_replayed_and_shown() -> None:
    code, shown = invoke("--seed", "3", "--trace")
    assert code == 0
    assert "seed 3: all promises were kept" in shown
    assert run(3).trace.digest() in shown
    assert run(3).trace.lines()[0] in shown


def test_a_changed_plan_is_replayed_as_json() -> None:
    code, shown = document("--seed", "3,orders=1,payment=2")
    lived = run_plan(plan_of("3,orders=1,payment=2"))
    assert code == 0
    assert (shown["kept"], shown["digest"]) == (True, lived.trace.digest())
    assert shown["replay"].startswith("orderflow simulate --seed 3,")


def test_many_seeds_are_summed_up() -> None:
    code, shown = invoke("--seeds", "3..8", "--jobs", "1")
    lived = [run(seed) for seed in range(3, 8)]
    assert code == 0
    assert shown.startswith("5 worlds from seed 3 in ")
    assert (
        f": {sum(each.report.orders for each in lived)} orders, {sum(each.events for each in lived)} events, "
        in shown
    )
    assert f"{len(frozenset[str]().union(*(each.coverage for each in lived)))} kinds of happenings" in shown
    assert shown.endswith("All promises were kept.\n")


def test_worlds_that_are_looked_at_side_by_side_are_the_same_ones_in_the_same_order() -> None:
    steered = [document("--seeds", "30", "--steer", "--jobs", "2") for _ in range(2)]
    for _, each in steered:
        each.pop("seconds")
    assert steered[0] == steered[1]
    alone, beside = (document("--seeds", "20", "--jobs", jobs)[1] for jobs in "12")
    assert [alone[name] for name in ("worlds", "steps", "coverage")] == [
        beside[name] for name in ("worlds", "steps", "coverage")
    ]


@pytest.mark.usefixtures("planted")
def test_a_failing_world_is_made_smaller_shown_and_named_so_that_it_can_be_lived_again() -> None:
    code, told = document("--seeds", "20..21", "--jobs", "1")
    assert code == 1
    assert told["kept"] is False
    first = told["failures"][0]
    assert first["replay"] == f"orderflow simulate --seed {first['seed']}"
    again = first["smallest"].rpartition(" ")[2]
    assert plan_of(again).orders <= plan_of(first["seed"]).orders
    code, shown = invoke("--seed", again, "--no-shrink")
    assert code == 1
    assert f"seed {again}: " in shown
    assert shown.rstrip().endswith(f"replay: {first['smallest']}")


@pytest.mark.usefixtures("planted")
def test_people_are_shown_the_smaller_world_at_once_and_all_names_at_the_end() -> None:
    code, shown = invoke("--seeds", "20..21", "--jobs", "1")
    assert code == 1
    assert "fails; shrunk, and still failing:" in shown
    assert "1 world failed:\n  orderflow simulate --seed " in shown


def test_the_night_ends_when_its_time_is_up_and_begins_where_no_other_has_begun() -> None:
    nights = [document("--minutes", "0.001", "--jobs", "1")[1] for _ in range(2)]
    assert all(night["kept"] and night["steered"] and night["worlds"] for night in nights)
    assert nights[0]["start"] != nights[1]["start"]
    assert document("--minutes", "0.001", "--jobs", "1", "--start", "7")[1]["start"] == 7


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Also where this process was started in the background, which ignores an interrupt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_it_with_the_summary_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    lived: list[WorldPlan] = []

    def until_interrupted(plan: WorldPlan) -> SeedResult:
        lived.append(plan)
        if len(lived) == survey.CHUNK + 1:
            signal.raise_signal(signal.SIGINT)
        return run_plan(plan)

    monkeypatch.setattr(survey, "run_plan", until_interrupted)
    code, shown = invoke("--seeds", "40", "--jobs", "1")
    assert code == 130
    assert f"{survey.CHUNK} worlds from seed " in shown
    assert shown.endswith("All promises were kept.\n")


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("--seed", "1", "--seeds", "2"), "--seed repeats one world"),
        (("--seed", "1", "--jobs", "2"), "--seed repeats one world"),
        (("--seed", "x"), "a seed is a whole number"),
        (("--seed", "1,colour=red"), "nothing in a plan is called 'colour'; there is "),
        (("--seed", "1,focus=nowhere"), "'nowhere' is no value of focus"),
        (("--seed", "1,orders=0"), "'0' is no value of orders"),
        (("--seeds", "5..2"), "neither a number from 1 nor two numbers"),
        (("--seeds", "0"), "neither a number from 1 nor two numbers"),
        (("--seeds", "2..4", "--start", "1"), "leave out --start"),
        (("--trace",), "name it with --seed"),
        (("--minutes", "0"), "0"),
    ],
)
def test_wrong_usage_is_refused(arguments: tuple[str, ...], wrong: str) -> None:
    code, shown = invoke(*arguments)
    assert code == 2
    assert wrong in shown


@pytest.mark.skipif(sys.platform == "win32", reason="a fork server is a matter of POSIX")
def test_no_process_outlives_one_that_was_killed() -> None:
    command = [sys.executable, "-m", "orderflow", "simulate", "--seeds", "1000000", "--jobs", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as simulating:
        assert simulating.stderr is not None
        assert "worlds" in simulating.stderr.readline()  # so its workers are there
        helpers = psutil.Process(simulating.pid).children(recursive=True)
        simulating.kill()
        _, left = psutil.wait_procs(helpers, timeout=60)
    assert len(helpers) > 2
    assert left == []
