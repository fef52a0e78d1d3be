"""A game day on the whole system: `up --game-day`, a fault, what it does, and its end."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.audit import assert_promises
from tests.e2e.conftest import Start
from tests.e2e.shop import Shop
from tests.e2e.system import System
from tests.support.waiting import eventually


def answer(system: System, *arguments: str, codes: tuple[int, ...] = (0,)) -> Any:
    done = system.command(*arguments, "--json")
    assert done.returncode in codes, done.stderr
    return json.loads(done.stdout)


async def test_a_fault_on_a_game_day_holds_up_what_it_strikes_and_every_order_ends_right(own_system: Start) -> None:
    system = own_system(None, "--game-day", "--processes", "inventory=2")
    await system.start()
    shop = Shop(system)
    try:
        for sku in ("STRUCK", "FREE"):
            await shop.stock(sku, 1_000)
        fault = ("--event", "PaymentSucceeded", "--match", "sku=STRUCK", "--error", "permanent")
        assert answer(system, "fault", "add", "inventory", *fault)["confirmed_by"] == 2

        struck, free = await shop.place("STRUCK"), await shop.place("FREE")
        assert (await shop.end_of(free))["status"] == "COMPLETED"
        await eventually(lambda: given_up(system), timeout_s=60, every_s=0.2)
        health = answer(system, "health", codes=(1,))
        assert "sku" in str(health["services"]["inventory"]["faults"])
        assert [each["id"] for each in answer(system, "fault", "list")["faults"]] == ["inventory-1"]

        assert [each["id"] for each in answer(system, "fault", "clear", "--all")["cleared"]] == ["inventory-1"]
        assert answer(system, "dlt", "replay", "--all")["replays"][0]["progress"]["succeeded"] == 1
        assert (await shop.end_of(struck))["status"] == "COMPLETED"
        assert answer(system, "fault", "list")["faults"] == []
        await assert_promises(shop)
    finally:
        await shop.close()


def given_up(system: System) -> bool:
    """Only then is it still there when the fault is cleared, however slow the machine is."""
    stuck = answer(system, "health", codes=(0, 1))["services"]["inventory"]["stuck"]
    return any(each["dead"] for each in stuck)
