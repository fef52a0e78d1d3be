"""Starting, sharing the work, stopping, and starting again."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx2
import psutil

from orderflow.registry import SAGA
from tests.e2e.audit import assert_promises
from tests.e2e.conftest import Start
from tests.e2e.shop import VISA, Shop
from tests.e2e.system import System, alive, kill, resume
from tests.support.waiting import eventually

TWO_OF_EACH = tuple(option for name in SAGA for option in ("--processes", f"{name}=2"))
GONE_TIMEOUT_S = 60.0


async def test_two_processes_of_each_service_share_the_work_and_either_may_die(
    own_system: Start, broker_jars: Path | None
) -> None:
    system = own_system(broker_jars, *TWO_OF_EACH)
    await system.start()
    assert len(system.names("service")) == 2 * len(SAGA)
    shop = Shop(system)
    try:
        await shop.stock("SHARED", 1_000)
        await shop.ends_of(await shop.place_many([("SHARED", VISA)] * 30))
        for name in ("order-2", "payment", "inventory-2", "notification"):
            system.kill(name)
        ids = await shop.place_many([("SHARED", VISA), ("SHARED", "pm_card_chargeDeclined")] * 10)
        ends = await shop.ends_of(ids)

        assert [order["status"] for order in ends] == ["COMPLETED", "FAILED"] * 10
        assert (await shop.get("inventory", "/stock/SHARED"))["on_hand"] == 1_000 - 40
        await assert_promises(shop)
    finally:
        await shop.close()


async def test_a_process_that_stands_still_holds_up_no_order(own_system: Start, broker_jars: Path | None) -> None:
    system = own_system(broker_jars, "--processes", "order=2", "--processes", "payment=2")
    await system.start()
    shop = Shop(system)
    still = [psutil.Process(system.process(name).pid) for name in ("order-2", "payment-2")]
    try:
        await shop.stock("SHARED", 1_000)
        await shop.ends_of(await shop.place_many([("SHARED", VISA)] * 30))
        for process in still:
            process.suspend()
        ends = await shop.ends_of(await shop.place_many([("SHARED", VISA)] * 30))

        assert {order["status"] for order in ends} == {"COMPLETED"}
        assert {process.status() for process in still} == {psutil.STATUS_STOPPED}
        for process in still:
            process.resume()
        await shop.ends_of(await shop.place_many([("SHARED", VISA)] * 30))
        await assert_promises(shop)
    finally:
        for process in still:
            resume(process)
        await shop.close()


async def test_ctrl_c_stops_everything_and_the_second_start_has_everything(
    own_system: Start, broker_jars: Path | None
) -> None:
    system = own_system(broker_jars)
    await system.start()
    order_id = await sell(system)
    everything = system.everything()

    assert system.end(signal.SIGINT) == 0
    assert alive(everything) == []
    assert not system.home.state.exists()

    await system.start()
    shop = Shop(system)
    try:
        order = await shop.end_of(order_id)
        assert order["status"] == "COMPLETED"
        await assert_promises(shop)
    finally:
        await shop.close()
    everything = system.everything()
    assert system.command("down").returncode == 0
    assert alive(everything) == []


async def test_killing_the_supervisor_leaves_nothing_running_and_loses_nothing(
    own_system: Start, broker_jars: Path | None
) -> None:
    system = own_system(broker_jars)
    await system.start()
    shop = Shop(system)
    try:
        await shop.stock("KEPT", 100)
        ids = await shop.place_many([("KEPT", VISA)] * 10)
        services = [each for each in system.everything() if each.pid != system.up.pid]
        services = [each for each in services if "java" not in each.name()]

        system.end(signal.SIGKILL)
        await eventually(lambda: alive(services) == [], timeout_s=GONE_TIMEOUT_S, every_s=0.1)
        await system.start()

        assert {order["status"] for order in await shop.ends_of(ids)} == {"COMPLETED"}
        await assert_promises(shop)
    finally:
        await shop.close()


async def test_everything_killed_at_once_loses_nothing(own_system: Start, broker_jars: Path | None) -> None:
    system = own_system(broker_jars)
    await system.start()
    shop = Shop(system)
    try:
        await shop.stock("KEPT", 100)
        ids = await shop.place_many([("KEPT", VISA), ("NEVER", VISA)] * 10)
        everything = system.everything()
        for process in everything:
            kill(process)
        system.end(signal.SIGKILL)
        await eventually(lambda: alive(everything) == [], timeout_s=GONE_TIMEOUT_S, every_s=0.1)

        await system.start()
        ends = await shop.ends_of(ids)

        assert [order["status"] for order in ends] == ["COMPLETED", "FAILED"] * 10
        await assert_promises(shop)
    finally:
        await shop.close()


async def test_what_runs_can_be_seen_and_a_second_up_is_refused(system: System) -> None:
    status = system.command("status", "--json")
    second = system.command("up")

    assert status.returncode == 0
    assert second.returncode == 1
    assert "already" in second.stderr + second.stdout
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as http:
        for name in SAGA:
            for path in ("/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"):
                assert (await http.get(system.ops_url(name) + path)).is_success, (name, path)
            for path in ("/openapi.json", "/docs"):
                assert (await http.get(system.url(name) + path)).is_success, (name, path)


async def sell(system: System) -> str:
    shop = Shop(system)
    try:
        await shop.stock("SOLD", 10)
        order_id = await shop.place("SOLD")
        await shop.end_of(order_id)
        return order_id
    finally:
        await shop.close()
