"""`orderflow logs` and `orderflow reset`: what they say to people, and what to programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orderflow.local.home import Home
from tests.support.shop import Says, shop
from tests.unit.cli.calls import ORDER_ID, call
from tests.unit.cli.orders import order

LINE = (
    '{"time":"2026-11-25T03:26:55.949Z","level":"info","service":"order","action":"message-handled","order_id":"7"}'
)
POSTGRES = "2026-11-25 03:15:05.027 UTC [7226] LOG:  starting \x1b[31mPostgreSQL"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    logs = Home.open(tmp_path).logs
    (logs / "order.log").write_text(f"{LINE}\n")
    (logs / "order.stderr.log").write_text("")
    (logs / "postgres.log").write_text(f"{POSTGRES}\n")
    return tmp_path


def on_a_terminal(home: Path, *arguments: str, **environment: str) -> list[str]:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "orderflow", "logs", "--home", str(home), *arguments]
    subprocess.run(command, stdout=theirs, env={**os.environ, **environment}, check=True, timeout=120)
    os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        return terminal.read1().decode().splitlines()


def test_one_log_is_shown_as_it_was_written_and_several_with_their_names(home: Path) -> None:
    assert call(home, "logs", "order").stdout == f"{LINE}\n"
    assert call(home, "logs").stdout == f"postgres       {POSTGRES}\norder          {LINE}\n"


def test_what_a_service_said_outside_of_its_log_is_told_apart(home: Path) -> None:
    (home / "logs" / "order.stderr.log").write_text("boom\n")
    assert call(home, "logs", "order").stdout == f"{LINE}\norder.stderr   boom\n"


def test_for_programs_every_line_is_a_json_object(home: Path) -> None:
    lines = [json.loads(line) for line in call(home, "logs", "--json").stdout.splitlines()]
    assert lines == [{"log": "postgres", "message": POSTGRES}, json.loads(LINE)]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo terminals on Windows")
def test_on_a_terminal_it_is_text_that_cannot_act_on_it(home: Path) -> None:
    assert on_a_terminal(home, "order", NO_COLOR="1") == ["03:26:55.949 info    order message-handled order_id=7"]
    postgres, coloured = on_a_terminal(home)
    assert "\x1b[32minfo" in coloured
    assert postgres.endswith("starting \\x1b[31mPostgreSQL")


def test_all_that_concerns_one_order_is_found_by_its_id_or_the_end_of_it(home: Path) -> None:
    asked = '{"time":"2026-11-25T03:26:56.000Z","order_id":"01981c5e-7a40-7000-8000-0123456789ab"}'
    other = '{"time":"2026-11-25T03:26:57.000Z","order_id":"01981c5e-7a40-7000-8000-0123456789ac"}'
    (home / "logs" / "payment.log").write_text(f"{other}\n{asked}\n")
    (home / "logs" / "order.log.1").write_text(f"{asked} in an older file\n")
    expected = [f"order          {asked} in an older file", f"payment        {asked}"]
    for words in (ORDER_ID, ORDER_ID.upper(), "456789ab", "0123-456789ab"):
        assert call(home, "logs", "--order", words).stdout.splitlines() == expected
    assert call(home, "logs", "--order", "nonsense").exit_code == 2


def test_without_any_log_it_says_so(tmp_path: Path) -> None:
    result = call(tmp_path, "logs")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.endswith("yet. Start with: orderflow up\n")


def test_a_log_that_is_not_there_is_not_found(home: Path) -> None:
    result = call(home, "logs", "nosuch")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.endswith("there are: order, order.stderr, postgres\n")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be asked there")
def test_watching_an_order_ends_when_its_reader_is_gone_also_at_rest(home: Path) -> None:
    with shop(lambda _: Says(200, order(2))) as server:
        command = [sys.executable, "-m", "orderflow", "order", "watch", ORDER_ID, "--home", str(home)]
        environment = {**os.environ, "ORDERFLOW_ORDER_URL": server.url}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as watching:
            assert watching.stdout is not None
            try:
                assert "PENDING" in watching.stdout.readline()
                watching.stdout.close()
                assert watching.wait(60) == 141
            finally:
                watching.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be asked there")
def test_following_ends_when_its_reader_is_gone_also_at_rest(home: Path) -> None:
    command = [sys.executable, "-m", "orderflow", "logs", "-f", "order", "--home", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        try:
            assert following.stdout.readline() == f"{LINE}\n"
            following.stdout.close()
            assert following.wait(60) == 141
            assert following.stderr.read() == ""
        finally:
            following.kill()


def test_that_no_line_matches_is_said_to_people_beside_the_lines(home: Path) -> None:
    result = call(home, "logs", "--order", "56789abc")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No matching lines.\n")
    assert call(home, "logs", "--order", "56789abc", "--json").output == ""
    assert call(home, "logs", "-n", "0").output == ""


def test_a_reset_tells_a_program_what_it_did_and_asks_beside_the_answer(home: Path) -> None:
    refused = call(home, "reset", "--json")
    assert (refused.exit_code, refused.stdout) == (130, "")
    assert "[y/N]" in refused.stderr
    assert json.loads(call(home, "reset", "--yes", "--json").stdout) == {"deleted": True, "home": str(home)}
    assert json.loads(call(home, "reset", "--yes", "--json").stdout) == {"deleted": False, "home": str(home)}
