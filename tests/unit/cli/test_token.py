"""`orderflow token`: shown once, listed without its secret, taken back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orderflow.cli import main


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "orderflow.toml").touch()
    return tmp_path


def token(home: Path, *arguments: str) -> Result:
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith("ORDERFLOW_")}
    return CliRunner(env={**clean, "ORDERFLOW_HOME": str(home)}).invoke(main, ["token", *arguments])


def test_a_token_is_shown_once_and_then_only_who_has_it(home: Path) -> None:
    made = token(home, "create", "anna", "--role", "operator", "--role", "approver", "--expires", "30d")
    text = made.stdout.strip()
    assert (made.exit_code, text[:3], made.stderr) == (0, "of_", "")
    listed = json.loads(token(home, "list", "--json").stdout)["tokens"]
    assert [(each["name"], each["roles"], each["state"]) for each in listed] == [
        ("anna", ["approver", "operator"], "good")
    ]
    assert text.split("_", 2)[2] not in json.dumps(listed) + token(home, "list", "--all").stdout

    assert token(home, "revoke", "anna").stdout == f"Revoked {listed[0]['id']} of anna\n"
    assert token(home, "list").stdout.startswith("Nobody has a token.")
    assert "revoked" in token(home, "list", "--all").stdout
    assert token(home, "revoke", "anna").exit_code == 4


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("create", "anna"), 2, "Missing option '--role'"),
        (("create", "anna", "--role", "root"), 2, "is not one of 'shop', 'viewer', 'operator', 'approver'"),
        (("create", "anna", "--role", "viewer", "--expires", "30"), 2, "expected a number followed by d, h or m"),
        (("create", "anna", "--role", "viewer", "--expires", "99999d"), 2, "at most ten years"),
        (("create", "tea", "--role", "shop"), 5, "--shop NAME"),
        (("create", "anonymous", "--role", "viewer"), 5, "cannot name a token"),
        (("revoke", "nobody"), 4, "orderflow token list"),
    ],
)
def test_what_is_no_token_is_refused_in_words(home: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    result = token(home, *arguments)
    assert result.exit_code == code
    assert said in result.stderr
    assert not (home / "tokens.json").exists() or json.loads(token(home, "list", "--json").stdout) == {"tokens": []}


def test_a_file_that_is_none_is_one_sentence(home: Path) -> None:
    (home / "tokens.json").write_text("nonsense")
    for arguments in (("list",), ("create", "anna", "--role", "viewer"), ("revoke", "anna")):
        result = token(home, *arguments)
        assert (result.exit_code, "is not a tokens file" in result.stderr) == (1, True)
    assert (home / "tokens.json").read_text() == "nonsense"
