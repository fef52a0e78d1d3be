"""What is set is read: a field that nobody reads is a promise that nobody keeps."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from orderflow.registry import SAGA
from tests.architecture.sources import PACKAGE, python_files, short, texts, tree

CODE = python_files("src")
CONFIGS = {"ServiceConfig": ("services",), "EngineConfig": ("core",), "Policy": ("core",)}
"""Classes whose fields bear the names of others', and the packages that must read them."""
_OWN = ("database_url", "database_password", "port", "url", "ops_port", "ops_url")
BY_NAME = {f"{name}_{what}" for name in (*SAGA, "log", "bank", "keys") for what in _OWN}
"""Settings whose names are put together where they are read."""


def fields() -> Iterator[tuple[str, str, str]]:
    """File, class and name of every annotated field. Events are read by whoever reads a topic."""
    for path in CODE:
        if path.is_relative_to(PACKAGE / "events"):
            continue
        for each in ast.walk(tree(path)):
            if isinstance(each, ast.ClassDef):
                for line in each.body:
                    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                        yield short(path), each.name, line.target.id


def reads(*packages: str) -> set[str]:
    """The attributes that are read in these packages, or in all."""
    return {
        each.attr
        for path in CODE
        if not packages or path.relative_to(PACKAGE).parts[0] in packages
        for each in ast.walk(tree(path))
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Load)
    }


def read_by_templates() -> set[str]:
    templates = (PACKAGE / "console" / "templates").glob("*.html")
    return {name for path in templates for name in re.findall(r"\.(\w+)", path.read_text("utf-8"))}


def test_every_field_is_read_somewhere() -> None:
    known = reads() | {text for path in CODE for _, text in texts(path)} | read_by_templates() | BY_NAME
    assert [field for field in fields() if field[2] not in known] == []


def test_every_field_of_a_configuration_is_read_where_it_is_meant_for() -> None:
    readers = {owner: reads(*packages) for owner, packages in CONFIGS.items()}
    unread = [(owner, name) for _, owner, name in fields() if owner in readers and name not in readers[owner]]
    assert unread == []
