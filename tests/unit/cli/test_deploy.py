"""What a deployment needs first, and secrets that come by standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orderflow.local import kafka_rights
from orderflow.registry import SAGA
from orderflow.settings import Settings
from tests.unit.cli.calls import call


def named() -> dict[str, str]:
    """A name and a password at Kafka for everybody."""
    found = {"KAFKA_USERNAME": "operator", "KAFKA_PASSWORD": "geheim"}
    for name in SAGA:
        found[f"{name.upper()}_KAFKA_USERNAME"] = name
        found[f"{name.upper()}_KAFKA_PASSWORD"] = "geheim"
    return found


def test_grant_prints_who_is_to_have_which_rights(tmp_path: Path) -> None:
    done = call(tmp_path, "grant", "--print", "--json", TOPIC_PREFIX="shop1.", **named())
    assert done.exit_code == 0, done.stderr
    rights = json.loads(done.stdout)
    assert rights["payment"] == sorted(
        [
            "DESCRIBE GROUP orderflow-reader",
            "READ GROUP shop1.payment",
            "READ TOPIC shop1.inventory-status",
            "READ TOPIC shop1.order-events",
            "READ TOPIC shop1.orderflow-installation",
            "WRITE TOPIC shop1.flow-status",
            "WRITE TOPIC shop1.inventory-status.DLT",
            "WRITE TOPIC shop1.order-events.DLT",
            "WRITE TOPIC shop1.payment-status",
        ]
    )
    writers = [user for user, each in rights.items() if "WRITE TOPIC shop1.payment-status" in each]
    assert writers == ["payment"]
    assert "WRITE TOPIC *" not in rights["operator"]
    assert "geheim" not in done.stdout


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"PAYMENT_KAFKA_PASSWORD": ""},
            "payment: set ORDERFLOW_PAYMENT_KAFKA_USERNAME and ORDERFLOW_PAYMENT",
        ),
        ({"KAFKA_PASSWORD": ""}, "operators: set ORDERFLOW_KAFKA_USERNAME and ORDERFLOW_KAFKA_PASSWORD"),
        ({"ORDER_KAFKA_USERNAME": "payment"}, "share one Kafka username: give each its own"),
    ],
)
def test_grant_wants_a_name_and_a_password_of_each(wrong: dict[str, str], sentence: str, tmp_path: Path) -> None:
    done = call(tmp_path, "grant", **{**named(), **wrong})
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "geheim" not in done.stderr


def test_grant_says_that_no_broker_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_rights, "TIMEOUT_S", 1.0)
    done = call(tmp_path, "grant", KAFKA_BOOTSTRAP="127.0.0.1:1", **named())
    assert done.exit_code == 1
    assert "the rights on Kafka could not be set: Kafka does not answer at 127.0.0.1:1" in done.stderr


def test_users_do_not_show_their_passwords(tmp_path: Path) -> None:
    environ = {f"ORDERFLOW_{name}": value for name, value in named().items()}
    assert "geheim" not in repr(kafka_rights.users(Settings.load(environ=environ, home=tmp_path)))


def test_credentials_are_told_and_stay(tmp_path: Path) -> None:
    made = str(tmp_path / "made")
    first = call(tmp_path / "home", "credentials", made, "--host", "orders.example")
    again = call(tmp_path / "home", "credentials", made, "--json")
    assert first.exit_code == again.exit_code == 0, first.stderr
    assert f"files made in {made}" in first.stdout
    assert json.loads(again.stdout)["made"] == []


def test_secrets_come_first_on_standard_input_and_nothing_else_is_taken_for_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "orderflow", "run", "order", "--secrets-pipe", "--control-pipe"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")}

    def started(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=own, input=line, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    none = started("no JSON\n")
    assert none.returncode == 2
    assert "the first line of standard input is not a JSON object" in none.stderr
    wrong = started('{"order_database_url": "mysql://u:geheim@h/d"}\n')
    assert wrong.returncode == 2
    assert "order_database_url of standard input is 'mysql://u:***@h/d'; expected" in wrong.stderr


def test_secure_is_said_of_the_broker_that_is_started(tmp_path: Path) -> None:
    done = call(tmp_path, "up", "--secure")
    assert done.exit_code == 2
    assert "--secure is for the broker that --kafka starts: give both" in done.stderr
