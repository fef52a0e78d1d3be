"""What a person types after `orderflow dlt`, and the files that it reads and writes."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from orderflow.cli.dlt.edit import in_editor, setting, with_settings
from orderflow.cli.dlt.replay import ReplayName, replay_name, share, telling
from orderflow.cli.dlt.reproduce import file_of
from orderflow.cli.errors import CliError
from orderflow.cli.values import age
from orderflow.core.operations.model import Replay, Reproduction
from tests.unit.cli.reproductions import REPRODUCTION, changed_row
from tests.unit.cli.test_dlt import replay


@pytest.mark.parametrize(("words", "ms"), [("90s", 90_000), ("10m", 600_000), ("2h", 7_200_000), ("1d", 86_400_000)])
def test_an_age_is_a_number_with_its_unit(words: str, ms: int) -> None:
    assert age(words) == ms


@pytest.mark.parametrize("words", ["", "10", "m", "1w", "-1m", "1.5h", "1000000d"])
def test_what_is_no_age_is_refused_with_an_example(words: str) -> None:
    with pytest.raises(click.BadParameter, match="such as 90s"):
        age(words)


@pytest.mark.parametrize(("words", "wanted"), [("5%", 0.05), ("0.2", 0.2), ("0", 0.0), ("100%", 1.0)])
def test_a_share_is_a_part_or_percent(words: str, wanted: float) -> None:
    assert share(words) == pytest.approx(wanted)


@pytest.mark.parametrize("words", ["5", "101%", "-1%", "nan", "many"])
def test_what_is_no_share_is_refused(words: str) -> None:
    with pytest.raises(click.BadParameter):
        share(words)


def test_a_replay_is_named_by_its_service_and_number() -> None:
    assert str(replay_name("payment-3")) == "payment-3"
    for words in ("3", "payment", "payment-x", "bank-3"):
        with pytest.raises(click.BadParameter, match="payment-3"):
            replay_name(words)


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_tells_how_a_replay_stands_and_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    progress = {"waiting": 2, "under_way": 1, "succeeded": 3, "failed_again": 1, "discarded": 1, "gone": 1}
    told = {**replay("running", **progress), "why": "[red]\x1b[2Jthe database is away"}
    with telling(hidden=False) as tell:
        tell({ReplayName("payment", 7): msgspec.convert(told, Replay)})
    shown = terminal.getvalue()

    assert "payment-7" in shown
    assert "6/9" in shown
    assert "1 failed again; [red]\\x1b[2Jthe database is away" in shown
    assert "\x1b[2J" not in shown


def test_no_bar_is_shown_to_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with telling(hidden=True) as tell:
        tell({})

    assert terminal.getvalue() == ""


def test_fields_are_set_by_their_path_as_json_or_text() -> None:
    value = json.dumps({"total": "many", "items": [{"sku": "a", "quantity": 1}]}).encode()
    wanted = [setting(words) for words in ("total=12", "items.0.quantity=2", "note=12 EUR", "card=null")]

    assert json.loads(with_settings(value, wanted)) == {
        "total": 12,
        "items": [{"sku": "a", "quantity": 2}],
        "note": "12 EUR",
        "card": None,
    }


@pytest.mark.parametrize("words", ["items.1.sku=a", "customer.name=a", "total.x=1", "items.x=1"])
def test_a_path_that_leads_nowhere_is_refused(words: str) -> None:
    with pytest.raises(click.UsageError, match="nothing at"):
        with_settings(b'{"total": 1, "items": [{}]}', [setting(words)])


@pytest.mark.parametrize("value", [None, b"", b"[]", b"\xff", b"text"])
def test_no_field_is_set_in_what_is_no_object(value: bytes | None) -> None:
    with pytest.raises(click.UsageError, match="not a JSON object"):
        with_settings(value, [setting("a=1")])


def test_a_value_is_edited_in_lines_and_sent_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/many/12/" "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)

    assert in_editor(b'{"total":"many","a":[1]}') == b'{"total":"12","a":[1]}'
    assert in_editor(b'{"total":1}') is None


def test_the_written_test_fails_by_its_rows_and_passes_with_others(tmp_path: Path) -> None:
    """Nothing of what is in it, which comes from outside, is run."""
    written, name = file_of(reproduction())
    mended, _ = file_of(reproduction(changed_row(status="CAPTURED", captured=5)))

    assert name == "test_payment_handles_stock_rejected"
    with pytest.raises(Exception, match="DECLINED"):
        run(tmp_path / "one.py", written, name)
    run(tmp_path / "other.py", mended, name)


def test_nothing_but_a_row_of_ours_is_imported() -> None:
    for kind in ("os:system", "orderflow.services.payment.model:Payment, os", "orderflow.x\nimport os:Y"):
        with pytest.raises(CliError, match="no type of row"):
            file_of(reproduction({**REPRODUCTION, "rows": [{"type": kind, "values": {}}]}))
    with pytest.raises(CliError, match="no service"):
        file_of(reproduction({**REPRODUCTION, "service": "payment.service import os #"}))


def reproduction(told: Mapping[str, Any] = REPRODUCTION) -> Reproduction:
    return msgspec.convert(told, Reproduction)


def run(path: Path, written: str, name: str) -> None:
    path.write_text(written)
    runpy.run_path(str(path))[name]()
