"""How names of customers become pseudonyms, and back."""

from __future__ import annotations

import pytest

from orderflow.privacy.pseudonyms import (
    PREFIX,
    PSEUDONYM_MAX,
    MasterKey,
    WrappedKey,
    WrongMasterKeyError,
    key_id_of,
)

MASTER = MasterKey(b"m" * 32)
NAMES = ("c", "customer-42", "ada \u2603 lovelace", "x" * 42, "x" * 43, "x" * 100, "\U0001f600" * 100, PREFIX + "x")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_comes_back_and_its_pseudonym_is_stable_and_fits_every_event(name: str) -> None:
    kept = MASTER.new_key(name)
    pseudonym = MASTER.pseudonym(kept, name)

    assert MASTER.name(kept, pseudonym) == name
    assert MASTER.pseudonym(kept, name) == pseudonym
    assert len(pseudonym) <= PSEUDONYM_MAX
    assert pseudonym.isascii()
    assert pseudonym.startswith(PREFIX)
    assert key_id_of(pseudonym) == kept.id
    assert len(name) < 10 or name not in pseudonym


def test_two_keys_of_one_customer_make_two_pseudonyms() -> None:
    one, other = MASTER.new_key("ada"), MASTER.new_key("ada")
    assert one.lookup == other.lookup
    assert MASTER.pseudonym(one, "ada") != MASTER.pseudonym(other, "ada")
    with pytest.raises(ValueError, match="not made under this key"):
        MASTER.name(other, MASTER.pseudonym(one, "ada"))


@pytest.mark.parametrize("name", ["ada", "x" * 100])
def test_a_pseudonym_that_was_changed_is_nobodys(name: str) -> None:
    kept = MASTER.new_key(name)
    pseudonym = MASTER.pseudonym(kept, name)
    changed = pseudonym[:-3] + ("A" if pseudonym[-3] != "A" else "B") + pseudonym[-2:]
    with pytest.raises(ValueError, match="not made under this key"):
        MASTER.name(kept, changed)


def test_without_the_master_key_nothing_is_found_or_read() -> None:
    other = MasterKey(b"o" * 32)
    kept = MASTER.new_key("ada")
    assert other.lookup("ada") != MASTER.lookup("ada")
    assert other.fingerprint != MASTER.fingerprint
    with pytest.raises(WrongMasterKeyError):
        other.name(kept, MASTER.pseudonym(kept, "ada"))
    with pytest.raises(ValueError, match="32 bytes"):
        MasterKey(b"short")


def test_a_key_that_was_exchanged_for_another_customers_is_refused() -> None:
    ada, bob = MASTER.new_key("ada"), MASTER.new_key("bob")
    exchanged = WrappedKey(ada.lookup, ada.id, bob.wrapped, ada.name)
    with pytest.raises(WrongMasterKeyError):
        MASTER.pseudonym(exchanged, "ada")


@pytest.mark.parametrize(
    "text",
    [
        "customer-42",
        "",
        "enc1.",
        "enc1.short.x",
        "enc1.0123456789abcdef",
        "enc2.0123456789abcdef.x",
        "enc1.0123456789abcde\u2603.x",
    ],
)
def test_clear_text_is_told_from_a_pseudonym(text: str) -> None:
    assert key_id_of(text) is None
