"""What the author of a service imports: all of it is there, it costs nothing, and it holds him to its types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import orderflow
from tests.architecture.sources import PROJECT

DECISIONS = """
from typing import ClassVar
from orderflow import Decision, Envelope, Event, Rows, handles

class Sent(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "test.Sent"

class Lost(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "test.Lost"
    why: str

@handles(Sent)
def fits(rows: Rows, event: Sent) -> Decision: ...

@handles(Sent, Lost)
def fits_both(rows: Rows, event: Sent | Lost, envelope: Envelope) -> Decision: ...

@handles(Lost)
def takes_more(rows: Rows, event: Event) -> Decision: ...

@handles(Sent)  # refused
def takes_another(rows: Rows, event: Lost) -> Decision: ...

@handles(Sent, Lost)  # refused
def takes_one_of_two(rows: Rows, event: Lost) -> Decision: ...

@handles(Sent)  # refused
def decides_nothing(rows: Rows, event: Sent) -> None: ...

@handles(Sent, touches=lambda event: [event.why])  # refused
def touches_another(rows: Rows, event: Sent) -> Decision: ...
"""


def test_every_name_is_there_and_no_other() -> None:
    assert {name for name in orderflow.__all__ if getattr(orderflow, name, None) is None} == set()
    assert sorted(orderflow.__all__) == dir(orderflow)
    with pytest.raises(AttributeError, match="no attribute 'Inlet'"):
        _ = orderflow.Inlet


def test_every_name_is_documented() -> None:
    bare = [
        name
        for name in orderflow.__all__
        if callable(value := getattr(orderflow, name)) and not (value.__doc__ or "").strip()
    ]
    assert bare == []


def test_to_import_it_loads_nothing_of_the_library() -> None:
    program = (
        "import sys, orderflow; print([name for name in sys.modules if name.startswith(('orderflow.', 'msgspec'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_checker_of_types_refuses_a_decision_that_does_not_fit_its_message(tmp_path: Path) -> None:
    file = tmp_path / "decisions.py"
    file.write_text(DECISIONS, encoding="utf-8")
    options = ("--strict", "--no-error-summary", "--no-pretty", "--disable-error-code=empty-body")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(file)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error: " in line}
    refused = {number for number, line in enumerate(DECISIONS.splitlines(), 1) if "# refused" in line}
    assert found == refused, done.stdout + done.stderr
