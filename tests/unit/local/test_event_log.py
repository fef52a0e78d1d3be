from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from orderflow.local.errors import LocalError
from orderflow.local.home import EventLog
from orderflow.local.services import alone
from orderflow.local.state import (
    broker_port,
    choose_event_log,
    settings_environment,
    settings_secrets,
    with_embedded,
    with_event_log,
)
from orderflow.registry import SAGA
from orderflow.settings import Settings

POSTGRES, OWN, FOREIGN = EventLog("postgres"), EventLog("kafka"), EventLog("kafka", "broker:9092")
SECURE = EventLog("kafka", secure=True)


def settings(tmp_path: Path, **overrides: object) -> Settings:
    return Settings.load(environ={}, home=tmp_path, overrides=overrides)


@pytest.mark.parametrize("remembered", [None, POSTGRES, OWN, FOREIGN])
def test_what_is_asked_for_wins_over_what_is_remembered(tmp_path: Path, remembered: EventLog | None) -> None:
    foreign = settings(tmp_path, transport="kafka", kafka_bootstrap="broker:9092")
    assert choose_event_log(foreign, remembered, own_broker=False) == FOREIGN
    assert choose_event_log(settings(tmp_path, transport="postgres"), remembered, own_broker=False) == POSTGRES
    assert choose_event_log(settings(tmp_path, transport="kafka"), remembered, own_broker=True) == OWN


@pytest.mark.parametrize("remembered", [POSTGRES, OWN, FOREIGN])
def test_who_asks_for_nothing_gets_what_is_remembered(tmp_path: Path, remembered: EventLog) -> None:
    assert choose_event_log(settings(tmp_path), remembered, own_broker=False) == remembered


@pytest.mark.parametrize(
    ("remembered", "said", "secure"),
    [(None, None, False), (None, True, True), (OWN, True, True), (SECURE, None, True), (SECURE, False, False)],
)
def test_our_own_broker_stays_secure_until_somebody_says_otherwise(
    tmp_path: Path, remembered: EventLog | None, said: bool | None, secure: bool
) -> None:
    found = choose_event_log(settings(tmp_path), remembered, own_broker=True, secure=said)
    assert found == EventLog("kafka", secure=secure)
    assert choose_event_log(settings(tmp_path), SECURE, own_broker=False) == SECURE


def test_our_own_broker_has_the_same_events_whoever_may_come_to_it() -> None:
    assert OWN.holds_what(SECURE)
    assert SECURE.holds_what(OWN)
    assert not SECURE.holds_what(FOREIGN)
    assert not POSTGRES.holds_what(SECURE)


def test_on_a_secure_broker_of_our_own_each_service_is_a_user_whatever_the_settings_say(tmp_path: Path) -> None:
    foreign = settings(tmp_path, kafka_security_protocol="ssl", kafka_ssl_key_file="/k", kafka_options_file="/o")
    secured = with_event_log(foreign, SECURE)
    assert (secured.kafka_security_protocol, secured.kafka_sasl_mechanism) == ("sasl_ssl", "SCRAM-SHA-512")
    assert (secured.kafka_ssl_key_file, secured.kafka_options_file) == (None, None)
    users = [secured.kafka_user(name) for name in (None, *SAGA)]
    assert [name for name, _ in users] == ["operator", *SAGA]
    assert len({password for _, password in users}) == len(users)
    assert with_event_log(foreign, SECURE).kafka_user("order") == secured.kafka_user("order")
    plain = with_event_log(secured, OWN)
    assert plain.kafka_security_protocol == "plaintext"
    assert plain.kafka_user("order") == (None, None)
    assert with_event_log(foreign, FOREIGN).kafka_security_protocol == "ssl"


def test_the_first_time_events_are_carried_by_postgresql(tmp_path: Path) -> None:
    assert choose_event_log(settings(tmp_path), None, own_broker=False) == POSTGRES


def test_services_are_told_what_carries_the_events(tmp_path: Path) -> None:
    given = settings(tmp_path, kafka_bootstrap="127.0.0.1:19092")
    assert with_event_log(given, POSTGRES).transport == "postgres"
    assert with_event_log(given, OWN).kafka_bootstrap == "127.0.0.1:19092"
    assert with_event_log(given, FOREIGN).kafka_bootstrap == "broker:9092"
    assert with_event_log(given, FOREIGN).transport == "kafka"


def test_our_own_broker_stands_where_the_setting_says_if_that_is_here(tmp_path: Path) -> None:
    assert broker_port(settings(tmp_path, kafka_bootstrap="127.0.0.1:19092")) == 19092
    with pytest.raises(LocalError, match=r"listens on 127\.0\.0\.1:PORT, but kafka_bootstrap is broker:9092"):
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
    assert found["ORDERFLOW_ORDER_PORT"] == "0"
    assert found["PATH"] == "/bin"
    assert "ORDERFLOW_LOG_LEVEL" not in found
    assert "ORDERFLOW_POSTGRES_PORT" not in found
    assert "pw" not in "".join(found.values())
    secrets = json.loads(settings_secrets(given))
    assert secrets["bank_database_url"] == "postgresql://orderflow_bank:pw@/orderflow_bank"
    again = Settings.load(environ=found, piped=secrets)
    assert again.service_database_url("order") == "postgresql://orderflow_order:pw@/orderflow_order"
    assert (again.service_port("order"), again.demo_catalogue) == (0, False)
    assert again.sources["order_database_url"] == "standard input"


def test_a_service_is_told_its_own_passwords_alone(tmp_path: Path) -> None:
    kafka = {"transport": "kafka", "kafka_username": "all", "kafka_password": "pw-all", "keys_master_key": "A" * 43}
    given = with_embedded(
        settings(tmp_path, **kafka, payment_kafka_username="paying", payment_kafka_password="pw-paying"),
        lambda name: f"postgresql://{name}:pw-{name}@/{name}",
    )
    payment, order = alone(given, "payment"), alone(given, "order")
    assert payment.secrets().keys() == {"payment_database_url", "bank_database_url", "kafka_password"}
    assert payment.kafka_user("payment") == ("paying", "pw-paying")
    assert payment.service_database_url("payment") == given.service_database_url("payment")
    keys = {"keys_database_url", "keys_master_key"}
    assert order.secrets().keys() == {"order_database_url", "kafka_password", *keys}
    assert order.kafka_user("order") == ("all", "pw-all")
    on_postgres = alone(dataclasses.replace(given, transport="postgres"), "order")
    assert "log_database_url" in on_postgres.secrets()
    assert not payment.embedded


def test_of_a_server_with_one_password_a_service_is_told_its_own_url(tmp_path: Path) -> None:
    server = settings(
        tmp_path,
        database_url="postgresql://admin@db:5432/x?sslmode=require",
        database_password="pw-admin",
        payment_database_password="pw@payment",
        alert_secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        token="pw-token",
    )
    payment = alone(server, "payment")
    url = "postgresql://orderflow_payment:pw%40payment@db:5432/orderflow_payment?sslmode=require"
    assert payment.service_database_url("payment") == url
    needed = {"payment_database_url", "bank_database_url", "log_database_url", "alert_secret"}
    assert payment.secrets().keys() == needed
    assert server.server_url() == "postgresql://admin:pw-admin@db:5432/x?sslmode=require"
    assert server.service_database_url("order").startswith("postgresql://orderflow_order:pw-admin@db:5432/")
