"""Importing does nothing, and the law of imports has no exceptions."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.architecture.sources import PROJECT, python_files, short, tree

IMPORT_EVERYTHING = """
import asyncio, builtins, importlib, os, pkgutil, socket, subprocess, sys, threading
sys.path.insert(0, {source!r})

def forbidden(what):
    def refuse(*arguments, **named):
        raise AssertionError(what + " at import")
    return refuse

for library in {libraries!r}:
    importlib.import_module(library)
socket.socket.connect = socket.socket.bind = forbidden("a socket")
subprocess.Popen.__init__ = forbidden("a process")
threading.Thread.start = forbidden("a thread")
asyncio.run = forbidden("an event loop")
os.mkdir = os.unlink = os.rename = os.chmod = forbidden("a change of files")
reading = builtins.open
def only_read(file, mode="r", *arguments, **named):
    assert not set(mode) & set("wax+"), f"{{file}} is written at import"
    return reading(file, mode, *arguments, **named)
builtins.open = only_read

import orderflow
for module in pkgutil.walk_packages(orderflow.__path__, "orderflow."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
"""
LIBRARIES = (
    "asyncpg",
    "click",
    "confluent_kafka",
    "confluent_kafka.admin",
    "httpx2",
    "msgspec",
    "prometheus_client",
    "psutil",
    "rich",
    "starlette.applications",
)


def test_every_module_can_be_imported_with_an_empty_environment_and_nothing_happens(tmp_path: Path) -> None:
    program = IMPORT_EVERYTHING.format(source=str(PROJECT / "src"), libraries=LIBRARIES)

    done = subprocess.run(
        [sys.executable, "-I", "-B", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        env={},
        cwd=tmp_path,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.split()) > 50
    assert list(tmp_path.iterdir()) == []


def test_the_law_of_imports_has_no_exceptions() -> None:
    law = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]

    assert len(law["contracts"]) >= 4
    assert [each["name"] for each in law["contracts"] if each.get("ignore_imports")] == []


def test_nobody_waits_by_wait_for() -> None:
    """On Python 3.11 `asyncio.wait_for` can lose a cancellation: the task goes on, and who ended it waits for ever.

    `async with asyncio.timeout(...)` does not.
    """
    found = [
        f"{short(path)}:{node.lineno}"
        for path in python_files("src")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and node.attr == "wait_for"
        and isinstance(node.value, ast.Name)
        and node.value.id == "asyncio"
    ]

    assert found == []
