"""How many modules somebody has to read who follows an order, and a page that follows it for them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.support.bounds import BOUNDS
from tests.support.postgres import PostgresServer
from tests.support.saga import databases
from tests.support.tracing import PACKAGE, Entry
from tests.support.ways import BOUNDED, Ways, counted, entered, modules, walk

PAGE = Path(__file__).parents[2] / "docs" / "follow-an-order.md"
SECTION = re.compile(r"^## .*?<a id=\"(\w+)\"></a>\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"`([\w/]+\.py)` `([\w.]+)`")


@pytest.fixture(scope="module")
def ways(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Ways:
    with databases(postgres, "order") as made:
        return asyncio.run(walk(made, tmp_path_factory.mktemp("ways")))


@pytest.mark.parametrize("way", BOUNDED)
def test_a_way_enters_no_more_modules_than_its_bound(ways: Ways, way: str) -> None:
    found = list(dict.fromkeys(file for part in BOUNDED[way] for file in modules(ways[part])))
    bound = BOUNDS["modules"]["most"][way]

    assert len(found) <= bound, f"{way} enters {len(found)} modules, {bound} are allowed: {', '.join(found)}"


@pytest.mark.parametrize("way", BOUNDED)
def test_a_way_comes_back_to_modules_no_more_often_than_its_bound(ways: Ways, way: str) -> None:
    assert counted(ways)[way]["again"] <= BOUNDS["modules"]["again"][way]


def test_where_no_traces_are_sent_no_way_enters_what_makes_them(ways: Ways) -> None:
    """A walk through a service is counted, so that nobody pays for what is switched off."""
    entries = [entry for traces in ways.values() for trace in traces for entry in trace.entries]

    assert Entry("core/telemetry.py", "Signals.emit") in entries
    assert [entry for entry in entries if entry.file == "observability/tracing.py"] == []


def test_every_pattern_of_the_vocabulary_fits_a_module() -> None:
    assert [each for each in BOUNDS["modules"]["vocabulary"] if not list(PACKAGE.glob(each))] == []


@pytest.mark.parametrize("way", ["post", "publish", "record"])
def test_the_page_follows_an_order_as_the_code_does(ways: Ways, way: str) -> None:
    steps = [Entry(*step) for step in STEP.findall(dict(SECTION.findall(PAGE.read_text("utf-8")))[way])]
    walked = entered(ways[way])

    assert steps
    assert [f"{step.file} {step.function}" for step in steps if step not in walked] == []
    assert steps == sorted(steps, key=walked.index), "the code enters them in another order"
