"""Why a service's process has ended is read from its log on this machine, if that is the last that it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orderflow.cli.explain import last_words

BEHIND = "the schema lacks payment 0003 refused_refunds: run `orderflow migrate`"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{"action": "listening"}, {"action": "cannot-run", "error": BEHIND}], BEHIND),
        ([{"action": "cannot-run", "error": BEHIND}, {"action": "listening"}], ""),
        ([{"action": "stopped"}], ""),
        (["no JSON"], ""),
        (["[]"], ""),
        ([], ""),
    ],
)
def test_the_last_line_of_the_log_tells(tmp_path: Path, lines: list[object], words: str) -> None:
    log = tmp_path / "payment.log"
    log.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in lines))

    assert last_words(log) == words


def test_a_service_without_a_log_here_has_none(tmp_path: Path) -> None:
    assert last_words(tmp_path / "payment.log") == ""
