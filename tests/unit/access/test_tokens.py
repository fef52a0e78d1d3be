"""The file of tokens: what is kept, who is told by it, and when a token counts no more."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orderflow.access.tokens import NoSuchTokenError, TokenRefusedError, Tokens, TokensFile, TokensFileError
from orderflow.core.access import Caller, CannotVerifyError, InvalidTokenError, Role

OPERATOR = frozenset({Role.OPERATOR})


@pytest.fixture
def file(tmp_path: Path) -> TokensFile:
    return TokensFile(tmp_path / "home" / "tokens.json")


def test_what_is_kept_is_a_hash_and_nobody_else_may_read_it(file: TokensFile) -> None:
    made, text = file.create("anna", OPERATOR)
    secret = text.split("_", 2)[2]

    assert text.startswith(f"of_{made.id}_")
    assert len(secret) == 43
    assert secret not in file.path.read_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert secret not in repr(made)


def test_a_caller_is_told_by_its_token_alone(file: TokensFile) -> None:
    _, text = file.create("espresso", frozenset({Role.SHOP}), shop="espresso")
    file.create("anna", OPERATOR)
    tokens = Tokens(file)

    assert tokens.caller_of(text) == Caller("espresso", frozenset({Role.SHOP}), "espresso")
    wrong = text[:-1] + ("A" if text[-1] != "A" else "B")
    for shown in (wrong, text[:-1], text.replace("of_", "OF_"), "of_", "of__", "", f"{text} "):
        if shown.startswith("OF_"):
            assert not tokens.knows(shown)
            continue
        with pytest.raises(InvalidTokenError, match="not known here"):
            tokens.caller_of(shown)


def test_a_new_token_counts_at_once_and_one_that_was_taken_back_no_more_after_a_second(file: TokensFile) -> None:
    now_s = [0.0]
    tokens = Tokens(file, monotonic=lambda: now_s[0])
    with pytest.raises(InvalidTokenError):
        tokens.caller_of("of_0_x")
    _, text = file.create("anna", OPERATOR)
    assert tokens.caller_of(text).name == "anna"
    assert [each.name for each in file.revoke("anna")] == ["anna"]
    now_s[0] = 1.0
    with pytest.raises(InvalidTokenError, match="was revoked"):
        tokens.caller_of(text)
    with pytest.raises(NoSuchTokenError, match="no token anna"):
        file.revoke("anna")


def test_a_token_ends_when_its_time_is_over(file: TokensFile) -> None:
    made, text = file.create("anna", OPERATOR, lifetime=timedelta(days=30))
    now = [datetime.now(UTC)]
    tokens = Tokens(file, now=lambda: now[0])

    assert tokens.caller_of(text).name == "anna"
    assert made.expires is not None
    now[0] = made.expires
    with pytest.raises(InvalidTokenError, match="has expired"):
        tokens.caller_of(text)
    assert file.has_good()
    file.revoke(made.id)
    assert not file.has_good()


@pytest.mark.parametrize(
    ("name", "roles", "shop", "why"),
    [
        ("", OPERATOR, None, "cannot name a token"),
        ("anonymous", OPERATOR, None, "cannot name a token"),
        ("orderflow", OPERATOR, None, "cannot name a token"),
        ("a\nb", OPERATOR, None, "cannot name a token"),
        ("anna", frozenset(), None, "needs at least one role"),
        ("anna", frozenset({Role.SHOP}), None, "needs the shop's name"),
        ("anna", OPERATOR, "espresso", "goes with the role shop"),
        ("anna", frozenset({Role.SHOP}), "s" * 101, "goes with the role shop"),
        ("taken", OPERATOR, None, "has a token already"),
    ],
)
def test_a_token_that_could_mislead_is_not_made(
    file: TokensFile, name: str, roles: frozenset[Role], shop: str | None, why: str
) -> None:
    file.create("taken", OPERATOR)
    with pytest.raises(TokenRefusedError, match=why):
        file.create(name, roles, shop=shop)
    assert [each.name for each in file.all()] == ["taken"]


def test_a_file_that_is_none_lets_nobody_in_and_says_so(file: TokensFile) -> None:
    _, text = file.create("anna", OPERATOR)
    tokens = Tokens(file)
    file.path.write_text("[]")

    with pytest.raises(TokensFileError, match="is not a tokens file"):
        file.all()
    with pytest.raises(CannotVerifyError, match="is not a tokens file"):
        tokens.caller_of(text)
    with pytest.raises(TokensFileError):
        file.create("bob", OPERATOR)
    assert file.path.read_text() == "[]"
