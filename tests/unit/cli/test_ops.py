"""`orderflow ops verify`: four services side by side, whose logs fit or do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from msgspec.structs import replace

from orderflow.core.operations.hash_chain import BEFORE_THE_FIRST, hash_of
from orderflow.core.operations.model import OperatorAction
from tests.support.shop import Asked, Says, shop
from tests.unit.cli.calls import call
from tests.unit.cli.fleet import fleet

AT = datetime(2026, 11, 26, 12, 0, 0, 123456, UTC)
ZERO = "0" * 64


def chain(count: int) -> list[OperatorAction]:
    """Latest first, as the service has them."""
    rows: list[OperatorAction] = []
    previous = BEFORE_THE_FIRST
    for number in range(1, count + 1):
        row = OperatorAction(
            number=number, at=AT, who="ada", action="settle", target=f"payment {number}", reason="r", result="done"
        )
        previous = hash_of(previous, row)
        rows.insert(0, replace(row, hash=previous.hex()))
    return rows


def served(rows: Sequence[OperatorAction]) -> Any:
    """As `GET /ops/actions` answers: a page before a number."""

    def answer(asked: Asked) -> Says:
        wanted = parse_qs(urlsplit(asked.path).query)
        before = int(wanted.get("before", ["99999999"])[0])
        page = [each for each in rows if each.number < before][:2]
        return Says(200, msgspec.to_builtins(page))

    return answer


def verify(home: Path, rows: Sequence[OperatorAction], *more: str) -> Any:
    with shop(served(rows)) as server:
        return call(home, "ops", "verify", "--service", "payment", *more, PAYMENT_URL=server.url)


def test_logs_that_fit_are_told_with_the_heads_to_keep(tmp_path: Path) -> None:
    rows = chain(5)
    shown = verify(tmp_path, rows)
    document = json.loads(verify(tmp_path, rows, "--json").stdout)

    assert shown.exit_code == 0, shown.stderr
    head = f"payment:5:{rows[0].hash}"
    assert ["payment", "5", "fits"] in [line.split() for line in shown.stdout.splitlines()]
    assert head in shown.stdout
    assert document["services"]["payment"] == {"rows": 5, "head": head, "problems": []}


def test_the_first_row_that_does_not_fit_is_named(tmp_path: Path) -> None:
    rows = chain(5)
    rows[3] = replace(rows[3], result="refused")
    shown = verify(tmp_path, rows)

    assert shown.exit_code == 1
    assert "row 2 does not fit" in shown.stderr
    assert "does not fit" in shown.stdout
    document = json.loads(verify(tmp_path, rows, "--json").stdout)
    assert document["services"]["payment"]["problems"] == [
        "row 2 does not fit: row 2 was changed, or row 1 was exchanged for another"
    ]


def test_what_was_cut_off_is_missed_by_a_head_that_was_kept(tmp_path: Path) -> None:
    rows = chain(5)
    kept, early = f"payment:5:{rows[0].hash}", f"payment:2:{rows[3].hash}"

    assert verify(tmp_path, rows, "--expect", kept, "--expect", early).exit_code == 0
    assert verify(tmp_path, chain(7), "--expect", kept, "--expect", rows[0].hash).exit_code == 0
    assert verify(tmp_path, [], "--expect", f"payment:0:{ZERO}").exit_code == 0
    cut = verify(tmp_path, rows[2:], "--expect", kept)
    assert cut.exit_code == 1
    assert "rows 4 to 5 are missing at the end" in cut.stderr
    assert "row 5 is missing at the end" in verify(tmp_path, rows[1:], "--expect", kept).stderr
    by_hash = verify(tmp_path, rows[2:], "--expect", rows[0].hash)
    assert by_hash.exit_code == 1
    assert f"no row has the hash {rows[0].hash}" in by_hash.stderr


def test_a_log_that_was_written_anew_is_another_than_the_one_that_was_kept(tmp_path: Path) -> None:
    kept = f"payment:3:{chain(3)[0].hash}"
    anew: list[OperatorAction] = []
    previous = BEFORE_THE_FIRST
    for row in reversed(chain(5)):
        forged = replace(row, who="eve")
        previous = hash_of(previous, forged)
        anew.insert(0, replace(forged, hash=previous.hex()))

    assert verify(tmp_path, anew).exit_code == 0
    found = verify(tmp_path, anew, "--expect", kept)
    assert found.exit_code == 1
    assert "row 3 is not the one that was expected" in found.stderr


@pytest.mark.parametrize("head", ["payment:3", "nobody:3:" + ZERO, "payment:x:" + ZERO, "abc", "payment:" + ZERO])
def test_what_is_no_head_is_refused_in_words(tmp_path: Path, head: str) -> None:
    refused = verify(tmp_path, chain(3), "--expect", head)
    assert refused.exit_code == 2
    assert "SERVICE:NUMBER:HASH" in refused.stderr


def test_a_service_that_does_not_answer_is_no_proof(tmp_path: Path) -> None:
    with fleet(tmp_path, away="payment") as services:
        shown = services.call("ops", "verify", "--expect", ZERO)
    assert shown.exit_code == 3
    assert "payment did not answer" in shown.stderr


def test_the_log_is_shown_with_who_and_why(tmp_path: Path) -> None:
    rows = msgspec.to_builtins(chain(1))
    with fleet(tmp_path, payment={"/ops/actions": rows}) as services:
        shown = services.call("ops", "log")
    assert shown.exit_code == 0, shown.stderr
    assert "settle payment 1" in shown.stdout
    assert "because: r" in shown.stdout


def test_rows_of_a_release_without_a_chain_do_not_fit(tmp_path: Path) -> None:
    rows = [replace(row, hash="") for row in chain(2)]
    assert verify(tmp_path, rows).exit_code == 1
