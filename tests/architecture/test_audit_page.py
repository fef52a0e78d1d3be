"""docs/audit.md has every kind of finding, as the code has it."""

from __future__ import annotations

from orderflow.audit.findings import CATALOGUE, Kind
from tests.support.audit_page import PAGE, page


def test_the_page_is_what_the_catalogue_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.support.audit_page"


def test_every_kind_says_what_it_is_and_what_to_do() -> None:
    assert set(CATALOGUE) == set(Kind)
    for kind, info in CATALOGUE.items():
        assert info.what, kind
        assert not info.what.endswith("."), kind
        assert info.remedy, kind
