from __future__ import annotations

from pathlib import Path

import pytest

from orderflow.local.errors import LocalError
from orderflow.local.home import Carrier
from orderflow.local.state import broker_port, choose_carrier, settings_environment, with_carrier, with_embedded
from orderflow.settings import Settings

POSTGRES, OWN, FOREIGN = Carrier("postgres"), Carrier("kafka"), Carrier("kafka", "broker:9092")


def settings(tmp_path: Path, **overrides: object) -> Settings:
    return Settings.load(environ={}, home=tmp_path, overrides=overrides)


@pytest.mark.parametrize("remembered", [None, POSTGRES, OWN, FOREIGN])
def test_what_is_asked_for_wins_over_what_is_remembered(tmp_path: Path, remembered: Carrier | None) -> None:
    foreign = settings(tmp_path, transport="kafka", kafka_bootstrap="broker:9092")
    assert choose_carrier(foreign, remembered, own_broker=False) == FOREIGN
    assert choose_carrier(settings(tmp_path, transport="postgres"), remembered, own_broker=False) == POSTGRES
    assert choose_carrier(settings(tmp_path, transport="kafka"), remembered, own_broker=True) == OWN


@pytest.mark.parametrize("remembered", [POSTGRES, OWN, FOREIGN])
def test_who_asks_for_nothing_gets_what_is_remembered(tmp_path: Path, remembered: Carrier) -> None:
    assert choose_carrier(settings(tmp_path), remembered, own_broker=False) == remembered


def test_the_first_time_events_are_carried_by_postgresql(tmp_path: Path) -> None:
    assert choose_carrier(settings(tmp_path), None, own_broker=False) == POSTGRES


def test_services_are_told_what_carries_the_events(tmp_path: Path) -> None:
    given = settings(tmp_path, kafka_bootstrap="127.0.0.1:19092")
    assert with_carrier(given, POSTGRES).transport == "postgres"
    assert with_carrier(given, OWN).kafka_bootstrap == "127.0.0.1:19092"
    assert with_carrier(given, FOREIGN).kafka_bootstrap == "broker:9092"
    assert with_carrier(given, FOREIGN).transport == "kafka"


def test_our_own_broker_stands_where_the_setting_says_if_that_is_here(tmp_path: Path) -> None:
    assert broker_port(settings(tmp_path, kafka_bootstrap="127.0.0.1:19092")) == 19092
    with pytest.raises(LocalError, match=r"stands on 127\.0\.0\.1:PORT, kafka_bootstrap is broker:9092"):
        broker_port(settings(tmp_path, kafka_bootstrap="broker:9092"))


def test_a_service_gets_all_that_was_given_or_found_and_nothing_that_is_stale(tmp_path: Path) -> None:
    given = with_embedded(
        settings(tmp_path, partitions=6, demo_catalogue=False), lambda name: f"postgresql://{name}:pw@/{name}"
    )
    environ = {"PATH": "/bin", "ORDERFLOW_ORDER_PORT": "1", "ORDERFLOW_LOG_LEVEL": "debug"}
    found = settings_environment(given, environ, order_port=0)
    assert found["ORDERFLOW_HOME"] == str(tmp_path)
    assert found["ORDERFLOW_PARTITIONS"] == "6"
    assert found["ORDERFLOW_DEMO_CATALOGUE"] == "false"
    assert found["ORDERFLOW_BANK_DATABASE_URL"] == "postgresql://orderflow_bank:pw@/orderflow_bank"
    assert found["ORDERFLOW_ORDER_PORT"] == "0"
    assert found["PATH"] == "/bin"
    assert "ORDERFLOW_LOG_LEVEL" not in found
    assert "ORDERFLOW_POSTGRES_PORT" not in found
    again = Settings.load(environ=found)
    assert again.service_database_url("order") == "postgresql://orderflow_order:pw@/orderflow_order"
    assert (again.service_port("order"), again.demo_catalogue) == (0, False)
