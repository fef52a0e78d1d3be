"""Commands that take long: how far they are is said where no terminal is, and their time is a bound for all of it."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import msgspec
import pytest
from click.testing import Result

from orderflow.cli import demo, tables
from orderflow.cli.dlt.replay import ReplayName, telling
from orderflow.cli.load import Tally
from orderflow.core.operations.model import Replay
from orderflow.load.client import PRICES
from tests.support.shop import Asked, Says, shop
from tests.unit.cli.calls import ORDER_ID, call
from tests.unit.cli.fleet import fleet
from tests.unit.cli.orders import order, problem
from tests.unit.cli.test_dlt import replay
from tests.unit.cli.until import perform_until


@pytest.fixture(autouse=True)
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "EVERY_S", 0.05)


@contextmanager
def silent() -> Iterator[Callable[[Asked], Says]]:
    """Answers nothing until the test is over."""
    over = threading.Event()

    def answer(_: Asked) -> Says:
        over.wait()
        return Says(0)

    try:
        yield answer
    finally:
        over.set()


@pytest.fixture
def time_is_up_when_all_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "perform", perform_until(lambda tally: tally.retries["503"] >= 10))


def demo_of_a_busy_service(home: Path, *options: str) -> Result:
    busy = {"/orders": {"orders": [], "next": None}, "POST /orders": problem(503, "too many orders are unfinished")}
    stock = {"/stock": {"stock": [{"sku": "SKU-SOLD-OUT", "on_hand": 0}], "next": None}}
    puts: dict[str, Any] = {f"PUT /stock/{sku}": {} for sku in PRICES}
    with fleet(home, order=busy, inventory={**stock, **puts}) as services:
        return services.call("demo", "--orders", "10", "--timeout", "60", *options)


@pytest.mark.usefixtures("time_is_up_when_all_are_refused")
def test_a_demo_of_a_service_that_stays_busy_ends_in_time_and_sums_up(tmp_path: Path) -> None:
    shown = demo_of_a_busy_service(tmp_path)

    assert shown.exit_code == 6, shown.stderr
    assert "After 60 s 0 of 10 orders are accepted" in shown.stderr
    assert "times after: 503" in shown.stdout


def test_a_demo_says_how_far_it_is_and_what_it_was_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with demo.progress_of(10, hidden=False) as tell:
        tell(Tally(10, retries=Counter({"503": 7})))
        assert "0 of 10 accepted (7 times 503), 0 of 10 final" in said_with("final", capsys)


@pytest.mark.usefixtures("time_is_up_when_all_are_refused")
def test_with_json_standard_error_is_one_document(tmp_path: Path) -> None:
    shown = demo_of_a_busy_service(tmp_path, "--json")
    assert json.loads(shown.stderr)["error"]["kind"] == "time_up"
    assert json.loads(shown.stdout)["orders"] == {"asked": 10, "placed": 0, "final": 0}


def test_a_demo_of_a_service_that_answers_nothing_ends_in_time(tmp_path: Path) -> None:
    with silent() as answer, shop(answer) as server:
        shown = call(tmp_path, "demo", "--timeout", "0.3", ORDER_URL=server.url, INVENTORY_URL=server.url)

    assert shown.exit_code == 6
    assert "did not answer within 0.3 s" in shown.stderr


def test_watching_a_service_that_answers_nothing_ends_in_time(tmp_path: Path) -> None:
    with silent() as answer, shop(answer) as server:
        shown = call(tmp_path, "order", "watch", ORDER_ID, "--timeout", "0.3", ORDER_URL=server.url)

    assert shown.exit_code == 3
    assert "did not answer within 0.3 s" in shown.stderr


def test_waiting_for_an_order_says_how_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = threading.Event()

    def echo(message: str, **options: Any) -> None:
        click.echo(message, **options)
        said.set()

    def answer(asked: Asked) -> Says:
        if asked.method == "POST":
            return Says(201, order(1))
        return Says(200, order(3 if said.is_set() else 1))

    monkeypatch.setattr(tables, "click", SimpleNamespace(echo=echo))
    with shop(answer) as server:
        shown = call(tmp_path, "order", "place", "--wait", "60", ORDER_URL=server.url)

    assert shown.exit_code == 0
    assert f"the order {ORDER_ID} is PENDING" in shown.stderr


def test_following_replays_says_how_far_each_is(capsys: pytest.CaptureFixture[str]) -> None:
    with telling(hidden=False) as tell:
        told = replay("running", waiting=3, succeeded=1, failed_again=1)
        tell({ReplayName("payment", 7): msgspec.convert(told, Replay)})
        assert "2 of 5 payment-7 (1 failed again)" in said_with("payment-7", capsys)


def test_what_is_said_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with tables.heartbeat(lambda: "at \x1b[31m", hidden=False):
        assert "at \\x1b[31m" in said_with("at", capsys)


def said_with(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Standard error once it holds these words."""
    shown, pause = "", threading.Event()
    for _ in range(6000):
        shown += capsys.readouterr().err
        if words in shown:
            break
        pause.wait(0.02)
    return shown
