"""`orderflow settings`."""

from __future__ import annotations

import json
from pathlib import Path

from orderflow.local.home import EventLog, Home
from orderflow.settings import Settings
from tests.unit.cli.calls import call


def test_every_setting_is_shown_with_its_source_and_meaning(tmp_path: Path) -> None:
    (tmp_path / "orderflow.toml").write_text("partitions = 12\n")
    shown = json.loads(call(tmp_path, "settings", "--json", BATCH_MAX="200").stdout)

    assert set(shown) == set(Settings.meanings())
    assert shown["partitions"]["value"] == 12
    assert shown["partitions"]["source"] == f"file {tmp_path / 'orderflow.toml'}"
    assert shown["batch_max"]["source"] == "environment ORDERFLOW_BATCH_MAX"
    assert shown["order_port"] | {"meaning": ""} == {"value": 8001, "source": "default", "meaning": ""}


def test_only_what_was_changed_when_asked_for(tmp_path: Path) -> None:
    assert set(json.loads(call(tmp_path, "settings", "--changed", "--json", BATCH_MAX="200").stdout)) == {
        "home",
        "batch_max",
    }


def test_what_the_home_runs_on_is_effective_until_a_setting_says_otherwise(tmp_path: Path) -> None:
    Home.open(tmp_path).remember_event_log(EventLog("kafka", "broker:9092"))

    def shown(**given: str) -> list[tuple[str, str]]:
        found = json.loads(call(tmp_path, "settings", "--json", **given).stdout)
        return [(found[name]["value"], found[name]["source"]) for name in ("transport", "kafka_bootstrap")]

    remembered = "what the home runs on"
    assert shown() == [("kafka", remembered), ("broker:9092", remembered)]
    assert shown(TRANSPORT="postgres") == [
        ("postgres", "environment ORDERFLOW_TRANSPORT"),
        ("127.0.0.1:9092", "default"),
    ]


def test_no_password_is_shown(tmp_path: Path) -> None:
    given = {"DATABASE_URL": "postgresql://ada:s3cret@db/x?password=s3cret"}
    for arguments in (["settings"], ["settings", "--json"]):
        result = call(tmp_path, *arguments, **given)
        assert "ada:***@db" in result.stdout
        assert "s3cret" not in result.output


def test_for_people_it_is_a_table(tmp_path: Path) -> None:
    shown = call(tmp_path, "settings", BATCH_MAX="200").stdout
    lines = [line.split() for line in shown.splitlines()]

    assert ["transport", "postgres", "what", "carries", "the", "events"] in lines
    assert ["batch_max", "200", "(environment", "ORDERFLOW_BATCH_MAX)"] in [line[:4] for line in lines]
    headings = [line for line in shown.splitlines() if line and not line.startswith(" ")]
    assert headings[:3] == ["Home", "Event log", "Databases"]
    assert ["log_file", "(not", "set)"] in [line[:3] for line in lines]


def test_every_value_begins_in_the_same_column(tmp_path: Path) -> None:
    lines = call(tmp_path, "settings").stdout.splitlines()
    places = {line.index(value, 3) for line in lines for value in ("(not set)",) if value in line}

    assert len(places) == 1
