"""What a test must not do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.architecture.sources import functions, python_files, short, tree

TESTS = [path for path in python_files("tests") if path.name.startswith("test_")]
HELPERS = [path for path in python_files("tests") if not {"support", "simulation"} & set(path.parts)]


def test_nobody_sleeps_in_a_test() -> None:
    """Wait for what you wait for, with a deadline; `sleep(0)` only lets others have their turn.

    `tests/support` has the waiting itself, and time in a simulation is not ours.
    """
    assert [place(path, node) for path, node in nodes(HELPERS) if isinstance(node, ast.Call) and is_sleep(node)] == []


def test_a_test_is_named_by_a_sentence() -> None:
    names = [each.name for path in TESTS for each in functions(path) if each.name.startswith("test_")]

    assert [name for name in names if not re.fullmatch(r"test_[a-z0-9]+(_[a-z0-9]+){2,}", name)] == []


def test_nothing_is_tried_again_until_it_passes_or_skipped_for_good() -> None:
    marks = [(place(path, node), node) for path, node in nodes(TESTS) if isinstance(node, ast.Attribute)]

    assert [where for where, node in marks if node.attr in ("flaky", "xfail") or is_bare_skip(node)] == []


def test_no_test_looks_at_a_clock() -> None:
    """How long something takes depends on who else is busy. `time.time` may be compared with a time stamp."""
    clocks = ("monotonic", "perf_counter", "process_time", "thread_time", "monotonic_ns", "perf_counter_ns")
    looks = [
        place(path, node)
        for path, node in nodes(TESTS)
        if isinstance(node, ast.Attribute) and node.attr in clocks and is_module(node.value, "time")
    ]

    assert looks == []


def nodes(paths: Sequence[Path]) -> Iterator[tuple[Path, ast.AST]]:
    return ((path, node) for path in paths for node in ast.walk(tree(path)))


def place(path: Path, node: ast.expr) -> str:
    return f"{short(path)}:{node.lineno}"


def is_sleep(call: ast.Call) -> bool:
    """A call of `time.sleep` or `asyncio.sleep` for a time."""
    match call:
        case ast.Call(func=ast.Attribute(attr="sleep"), args=[ast.Constant(value=0)]):
            return False
        case ast.Call(func=ast.Attribute(value=ast.Name(id="time" | "asyncio" | "anyio"), attr="sleep")):
            return True
        case _:
            return False


def is_module(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def is_bare_skip(node: ast.Attribute) -> bool:
    return node.attr == "skip" and isinstance(node.value, ast.Attribute) and node.value.attr == "mark"
