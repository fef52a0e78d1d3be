"""Which changes of an event a reader of the other release takes, and how a break is told."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from orderflow.cli.schema import current
from orderflow.schema.asyncapi import Json
from orderflow.schema.compatibility import Direction, NotADocumentError, breaks_between
from tests.unit.cli.calls import call

NAME = "example.Told.v1"
OLD_READS_NEW, NEW_READS_OLD = Direction


def release(value: Json, *, sent: str = NAME, read: tuple[str, ...] = (NAME,), **schemas: Json) -> Json:
    """One topic, on which one service sends an event and another reads some."""
    messages = {name: {"payload": {"$ref": "#/components/schemas/Told"}} for name in {sent, *read}}
    channel = {"$ref": "#/channels/news"}
    return {
        "asyncapi": "3.1.0",
        "operations": {
            "writer.send.news": {"action": "send", "channel": channel, "messages": _references([sent])},
            "reader.receive.news": {"action": "receive", "channel": channel, "messages": _references(read)},
        },
        "components": {"messages": messages, "schemas": {"Told": value, **schemas}},
    }


def _references(names: Any) -> list[Json]:
    return [{"$ref": f"#/channels/news/messages/{name}"} for name in names]


def told(required: tuple[str, ...] = ("a",), **properties: Json) -> Json:
    return {"type": "object", "properties": {"a": {"type": "string"}, **properties}, "required": list(required)}


def found(old: Json, new: Json) -> set[tuple[Direction, str]]:
    return {(each.direction, each.pointer) for each in breaks_between(old, new)}


LONG = {"type": "string", "maxLength": 100}
SHORT = {"type": "string", "maxLength": 50}
ONE_OF_TWO = {"enum": ["x", "y"]}
ONE_OF_THREE = {"enum": ["x", "y", "z"]}
MAYBE = {"anyOf": [{"type": "string"}, {"type": "null"}]}
LINES = {"type": "array", "items": {"$ref": "#/components/schemas/Line"}}


@pytest.mark.parametrize(
    ("old", "new", "broken"),
    [
        pytest.param(told(), told(), set(), id="nothing"),
        pytest.param(told(), told(b={"type": "string"}), set(), id="a field that need not be there"),
        pytest.param(told(), told(("a", "b"), b=LONG), {(NEW_READS_OLD, "/b")}, id="a field that must be there"),
        pytest.param(
            told(("a", "b"), b=LONG), told(b=LONG), {(OLD_READS_NEW, "/b")}, id="one that need not any more"
        ),
        pytest.param(told(("a", "b"), b=LONG), told(), {(OLD_READS_NEW, "/b")}, id="a field that is gone"),
        pytest.param(told(b=LONG), told(), set(), id="a field that is gone, and needed not be there"),
        pytest.param(told(b=SHORT), told(b=LONG), {(OLD_READS_NEW, "/b")}, id="longer texts"),
        pytest.param(told(b=LONG), told(b=SHORT), {(NEW_READS_OLD, "/b")}, id="shorter texts"),
        pytest.param(told(b=ONE_OF_TWO), told(b=ONE_OF_THREE), {(OLD_READS_NEW, "/b")}, id="one more choice"),
        pytest.param(told(b=ONE_OF_THREE), told(b=ONE_OF_TWO), {(NEW_READS_OLD, "/b")}, id="one choice less"),
        pytest.param(told(b={"type": "string"}), told(b=MAYBE), {(OLD_READS_NEW, "/b")}, id="it may be null"),
        pytest.param(
            told(b={"type": "number"}), told(b={"type": "integer"}), {(NEW_READS_OLD, "/b")}, id="whole numbers only"
        ),
        pytest.param(
            told(b={"type": "integer"}),
            told(b={"type": "string"}),
            {(OLD_READS_NEW, "/b"), (NEW_READS_OLD, "/b")},
            id="another type",
        ),
        pytest.param(
            told(b={"type": "string", "pattern": "^a"}),
            told(b={"type": "string", "pattern": "^b"}),
            {(OLD_READS_NEW, "/b"), (NEW_READS_OLD, "/b")},
            id="another pattern",
        ),
        pytest.param(
            told(b={"type": "string", "description": "x"}), told(b={"type": "string"}), set(), id="other words"
        ),
    ],
)
def test_a_change_is_taken_or_is_a_break(old: Json, new: Json, broken: set[tuple[Direction, str]]) -> None:
    assert found(release(old), release(new)) == broken


def test_a_break_in_a_part_is_found_by_its_place() -> None:
    old = release(told(lines=LINES), Line={"type": "object", "properties": {"sku": LONG}})
    new = release(told(lines=LINES), Line={"type": "object", "properties": {"sku": {**LONG, "maxLength": 101}}})

    (broken,) = breaks_between(old, new)
    assert (broken.pointer, broken.reader, broken.topic, broken.message) == ("/lines/*/sku", "reader", "news", NAME)
    assert broken.why == "its maxLength is 101, and 100 is read"


def test_a_new_version_is_sent_only_after_the_last_release_reads_it() -> None:
    second = "example.Told.v2"
    ready = release(told(), read=(NAME, second))

    assert found(release(told()), release(told(), sent=second, read=(NAME, second))) == {(OLD_READS_NEW, "")}
    assert found(ready, release(told(), sent=second, read=(NAME, second))) == set()


def test_a_version_that_stands_on_the_topic_must_be_read_on() -> None:
    second = "example.Told.v2"

    assert found(release(told(), read=(NAME, second)), release(told(), sent=second, read=(second,))) == {
        (NEW_READS_OLD, "")
    }


@pytest.mark.parametrize("wrong", [{}, {"asyncapi": "2.6.0"}, {"asyncapi": "3.0.0"}, []])
def test_what_is_no_such_document_is_said_to_be_none(wrong: Any) -> None:
    with pytest.raises(NotADocumentError, match="expected is"):
        breaks_between(wrong, release(told()))


def test_the_command_shows_the_breaks_and_ends_with_one(tmp_path: Path) -> None:
    last = deepcopy(current())
    last["components"]["schemas"]["OrderPlaced"]["properties"]["customer_id"]["maxLength"] = 10
    (tmp_path / "last.json").write_text(json.dumps(last), encoding="utf-8")
    (tmp_path / "same.json").write_text(json.dumps(current()), encoding="utf-8")

    same = call(tmp_path / "home", "schema", "check", "--against", str(tmp_path / "same.json"))
    broken = call(tmp_path / "home", "schema", "check", "--against", str(tmp_path / "last.json"), "--json")

    assert (same.exit_code, same.stdout.strip()) == (0, "Each release reads what the other one writes.")
    assert broken.exit_code == 1
    assert {each["pointer"] for each in json.loads(broken.stdout)["breaks"]} == {"/customer_id"}


def test_a_file_that_is_no_json_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "last.json").write_text("{", encoding="utf-8")
    answer = call(tmp_path / "home", "schema", "check", "--against", str(tmp_path / "last.json"))

    assert answer.exit_code == 1
    assert "cannot be read" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_schemas_are_written_into_a_folder(tmp_path: Path) -> None:
    answer = call(tmp_path / "home", "schema", "export", "--into", str(tmp_path / "new"), "--json")
    names = {file.name for file in (tmp_path / "new").iterdir()}

    assert answer.exit_code == 0
    assert names == set(json.loads(answer.stdout)["files"])
    assert {"asyncapi.json", "orderflow.OrderPlaced.v1.schema.json"} <= names
