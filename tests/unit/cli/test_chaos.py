"""What `orderflow chaos` refuses before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from orderflow.chaos.plan import KINDS
from orderflow.cli import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--faults", "kill,earthquake"], "'earthquake' is not a kind of fault"),
        (["--brokers", "3"], "--brokers is for Kafka: add --kafka"),
        (["--minutes", "0"], "--minutes"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["chaos", *arguments])

    assert done.exit_code == 2
    assert said in done.output


def test_a_home_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "home.json").write_text("{}")
    done = CliRunner().invoke(main, ["chaos", "--home", str(tmp_path)])

    assert done.exit_code == 2
    assert "is not empty" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["home.json"]


def test_the_help_names_every_kind() -> None:
    said = CliRunner().invoke(main, ["chaos", "--help"]).output

    assert [kind for kind in KINDS if f"\n    {kind} " not in said] == []
