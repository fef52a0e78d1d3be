"""What operators say of outages, for both stores."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from orderflow.core.failures import Verdict
from orderflow.core.operations.model import Overrule
from orderflow.core.operations.port import OperatedStore
from orderflow.core.store import Act
from tests.conformance.store_backends import Backend
from tests.support.callers import person

ADA = Act(caller=person("ada"), reason="forged \u2603")
POISON = Overrule(consumer="order", event_type="shop.Bought.v1", verdict=Verdict.POISON)


async def test_the_last_word_on_a_type_counts_in_every_process(backend: Backend, store: OperatedStore) -> None:
    other = await backend.open()
    await store.recovery.overrule(POISON, Act(caller=person("bob")), "said.")
    made = await store.recovery.overrule(replace(POISON, verdict=Verdict.OUTAGE), ADA, "said.")
    another = await other.recovery.overrule(replace(POISON, consumer="a"), ADA, "said.")

    assert list(await other.recovery.overrules()) == [another, made]
    assert (made.verdict, made.who, made.reason) == (Verdict.OUTAGE, "ada", "forged \u2603")
    assert made.made_at is not None


async def test_it_is_logged_with_who_and_why(store: OperatedStore) -> None:
    await store.recovery.overrule(POISON, ADA, "Failures count as poison.")

    action = (await store.recovery.actions(1))[0]
    assert (action.who, action.action, action.target) == ("ada", "overrule", "order shop.Bought.v1")
    assert (action.reason, action.result) == ("forged \u2603", "Failures count as poison.")


async def test_it_holds_for_a_while(store: OperatedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.recovery.overrule(POISON, ADA, "said.")

    for where in ("testing", "postgres"):
        monkeypatch.setattr(f"orderflow.core.{where}.recovery.OVERRULE_HOLDS_MS", 0)
    assert list(await store.recovery.overrules()) == []
