"""`orderflow doctor`: each check against a machine that has what it looks for, or has not."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

from orderflow.cli import doctor
from orderflow.cli.doctor import FAILED, OK, SKIPPED, WARNING, CheckResult
from orderflow.local.processes import free_port
from orderflow.registry import SAGA
from orderflow.settings import Settings
from tests.support.shop import Says, Shop, shop
from tests.unit.cli.calls import NOBODY, call

FACTS = {
    "version": "180000",
    "skew_ms": 3.0,
    "max_connections": "200",
    "max_locks_per_transaction": "256",
    "prepared": "0",
}


def load(home: Path, **overrides: object) -> Settings:
    return Settings.load(environ={}, home=home, overrides=overrides)


def test_this_machine_can_run_it() -> None:
    assert doctor.python().verdict == OK
    assert doctor.dependencies().verdict == OK


def test_an_old_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))

    assert doctor.python() == CheckResult("python", FAILED, "3.10.2", "Python 3.11 or newer is needed")


def test_a_package_that_is_missing_or_old_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["click>=9999", "no-such-package>=1", "other>=1; extra == 'dev'", "rich"]
    monkeypatch.setattr(metadata, "requires", lambda _: wanted)
    found = doctor.dependencies()

    assert found.verdict == FAILED
    assert "needs 9999" in found.found
    assert "no-such-package is not installed" in found.found
    assert "other" not in found.found


def test_a_home_may_be_new_empty_or_ours_and_nothing_else(tmp_path: Path) -> None:
    assert doctor.home(load(tmp_path / "new" / "deeper")).verdict == OK
    assert doctor.home(load(tmp_path)).verdict == OK
    (tmp_path / "thesis.doc").touch()
    assert doctor.home(load(tmp_path)).verdict == FAILED
    (tmp_path / "home.json").touch()
    assert doctor.home(load(tmp_path)).verdict == OK
    assert doctor.home(load(tmp_path / "thesis.doc")).verdict == FAILED


@pytest.mark.parametrize(("free_mb", "verdict"), [(100, FAILED), (1000, WARNING), (10_000, OK)])
def test_a_full_disk_fails(free_mb: int, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")  # only what is read of it
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free_mb * 1_000_000))

    assert doctor.disk(load(tmp_path)).verdict == verdict


def test_a_port_that_is_taken_by_somebody_else_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ANSWER_TIMEOUT_S", 60.0)
    with shop(lambda _: Says(200, b"hello")) as other, shop(lambda _: Says(200, {"alive": True})) as ours:
        found = list(
            doctor.ports(
                load(
                    tmp_path,
                    order_port=port_of(other),
                    order_ops_port=0,
                    payment_port=port_of(ours),
                    payment_ops_port=port_of(ours),
                    inventory_port=free_port(),
                    inventory_ops_port=port_of(other),
                    notification_url="http://far-away",
                )
            )
        )

    assert [each.verdict for each in found] == [FAILED, OK, OK, OK, OK, FAILED, SKIPPED, SKIPPED]
    assert "ORDERFLOW_ORDER_PORT" in found[0].advice
    assert "ORDERFLOW_INVENTORY_OPS_PORT" in found[5].advice


def port_of(server: Shop) -> int:
    return int(server.url.rpartition(":")[2])


def test_a_server_that_is_not_started_yet_is_no_fault(tmp_path: Path) -> None:
    settings = load(tmp_path)

    assert [each.verdict for each in doctor.databases(settings, settings)] == [SKIPPED]
    assert doctor.binaries(settings).verdict == OK


def test_a_database_that_cannot_be_reached_fails_and_its_password_is_not_told(tmp_path: Path) -> None:
    settings = load(tmp_path, database_url="postgresql://ada:s3cret@127.0.0.1:9")
    found = list(doctor.databases(settings, settings))

    assert {each.verdict for each in found} == {FAILED}
    assert len(found) == 7
    assert "s3cret" not in str(found)


@pytest.mark.parametrize(
    ("changed", "check", "verdict"),
    [
        ({}, "postgresql", OK),
        ({"version": "140003"}, "postgresql", WARNING),
        ({"read_only": True}, "postgresql", FAILED),
        ({"skew_ms": -5000.0}, "clock", WARNING),
        ({"max_locks_per_transaction": "64", "max_connections": "100"}, "postgresql locks", WARNING),
        ({"max_locks_per_transaction": "10", "max_connections": "100"}, "postgresql locks", FAILED),
        ({"max_connections": "50", "max_locks_per_transaction": "512"}, "postgresql connections", WARNING),
    ],
)
def test_a_server_s_limits_are_looked_at(changed: dict[str, object], check: str, verdict: str) -> None:
    found = {each.check: each for each in doctor.server_verdicts({**FACTS, **changed}, 500, external=True)}

    assert found[check].verdict == verdict
    assert bool(found[check].advice) == (verdict != OK)
    assert {name for name, each in found.items() if each.verdict == OK} >= set(found) - {check}


def test_our_own_server_s_limits_are_not_told() -> None:
    assert len(list(doctor.server_verdicts(FACTS, 500, external=False))) == 2


def test_services_that_all_are_away_are_no_fault_but_one_that_is_missing_is(tmp_path: Path) -> None:
    away = {f"{name}_url": NOBODY for name in SAGA}
    assert [each.verdict for each in doctor.services(load(tmp_path, **away))] == [SKIPPED]

    problems = {"database": "it is away"}
    with (
        shop(lambda _: Says(200, {"ready": True, "problems": {}})) as well,
        shop(lambda _: Says(503, {"ready": False, "problems": problems})) as ill,
    ):
        settings = load(tmp_path, **{**away, "order_url": well.url, "payment_url": ill.url})
        found = list(doctor.services(settings))

    assert [each.verdict for each in found] == [OK, FAILED, FAILED, FAILED]
    assert found[1].found == "database: it is away"
    assert "Nothing answers" in found[2].found


def test_kafka_is_asked_only_where_it_carries_the_events(tmp_path: Path) -> None:
    assert list(doctor.kafka(load(tmp_path))) == []


def test_the_exit_code_says_whether_anything_failed(tmp_path: Path) -> None:
    away = {f"{name.upper()}_URL": NOBODY for name in SAGA}
    good = call(tmp_path / "home", "doctor", **away)
    (tmp_path / "thesis.doc").touch()
    bad = call(tmp_path, "doctor", "--json", **away)

    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert good.stdout.rstrip().endswith("Nothing failed")
    assert [entry.name for entry in (tmp_path / "home").iterdir()] == ["orderflow.toml"]
    document = json.loads(bad.stdout)
    assert document["healthy"] is False
    assert [check["check"] for check in document["checks"] if check["verdict"] == "failed"] == ["home"]


def test_what_was_checked_stands_apart_from_what_was_found(tmp_path: Path) -> None:
    shown = call(tmp_path, "doctor").stdout

    assert re.search(r"operators' port of notification 8104 ", shown), shown
