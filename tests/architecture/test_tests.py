"""What a test must not do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.architecture.sources import functions, python_files, short, tree

TESTS = [path for path in python_files("tests") if path.name.startswith("test_")]
GENEROUS_S = 30
HELPERS = [path for path in python_files("tests") if not {"support", "simulation"} & set(path.parts)]


def test_nobody_sleeps_in_a_test() -> None:
    """Wait for what you wait for, with a deadline; `sleep(0)` only lets others have their turn.

    `tests/support` has the waiting itself, and time in a simulation is not ours.
    """
    assert [place(path, node) for path, node in nodes(HELPERS) if isinstance(node, ast.Call) and is_sleep(node)] == []


def test_nobody_reaches_into_what_is_private() -> None:
    """Of another file, that is; a test of behaviour survives a change of what is behind it."""
    assert [place(path, node) for path in python_files("tests") for node in reaching_in(path)] == []


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


def test_no_test_says_how_long_something_may_take() -> None:
    """`eventually` and a generous deadline tell what hangs from what is slow; nothing else can, on a busy machine."""
    bounds = [place(path, node) for path, node in nodes(TESTS) if isinstance(node, ast.Compare) and is_bound(node)]

    assert bounds == []


def test_a_deadline_that_work_has_to_meet_is_generous() -> None:
    """Shorter ones are for what must not happen (`raises`), for virtual time, and for pauses."""
    hasty = [
        place(path, call)
        for path in TESTS
        if "simulation" not in path.parts
        for known in (constants(tree(path)),)
        for call in calls(tree(path))
        if (deadline := deadline_of(call, known)) is not None and deadline < GENEROUS_S
    ]

    assert hasty == []


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


def is_bound(node: ast.Compare) -> bool:
    """`clock.monotonic() - started < 1`."""
    match node:
        case ast.Compare(
            left=ast.BinOp(left=ast.Call(func=ast.Attribute(attr="monotonic" | "time")), op=ast.Sub()),
            ops=[ast.Lt() | ast.LtE()],
        ):
            return True
        case _:
            return False


def calls(node: ast.AST) -> Iterator[ast.Call]:
    """Of which work has to end in time: none in virtual time, and none that is to run out of it."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() if is_virtual(node):
            return
        case ast.With() if any(runs_out(each.context_expr) for each in node.items):
            return
        case ast.Call():
            yield node
    for child in ast.iter_child_nodes(node):
        yield from calls(child)


def is_virtual(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "virtually" for each in node.decorator_list)


def runs_out(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and any("TimeoutError" in ast.unparse(each) for each in node.args)


def deadline_of(call: ast.Call, known: Mapping[str, float]) -> float | None:
    """In seconds, of a call that gives up after a time that is written down."""
    match call:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio"), attr="timeout"), args=[limit]):
            return seconds(limit, known)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio"), attr="wait_for"), args=[_, limit]):
            return seconds(limit, known)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio"), attr="wait")):
            return None
        case ast.Call(func=ast.Name(id="eventually") | ast.Attribute(attr="run" | "wait" | "result" | "AsyncClient")):
            limits = [each.value for each in call.keywords if each.arg in ("timeout", "timeout_s")]
            return seconds(limits[0], known) if limits else None
        case _:
            return None


def seconds(node: ast.expr, known: Mapping[str, float]) -> float | None:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id=name):
            return known.get(name)
        case _:
            return None


def constants(module: ast.Module) -> Mapping[str, float]:
    """Numbers that have a name of the module."""
    return {
        node.targets[0].id: node.value.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, int | float)
    }


PUBLIC_ALL_THE_SAME = frozenset({"_asdict", "_exit", "_fields", "_make", "_replace"})
"""Of named tuples and of `os`."""


def reaching_in(path: Path) -> Iterator[ast.Attribute]:
    """Private attributes that this file does not define itself. Constants of libraries (`_ALL_CAPS`) are left out."""
    private = [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and re.fullmatch(r"_[a-z]\w*", node.attr) and not is_own(node.value)
    ]
    if private:
        own = {each.name for each in functions(path)} | PUBLIC_ALL_THE_SAME
        yield from (each for each in private if each.attr not in own)


def is_own(value: ast.expr) -> bool:
    """`self`, `cls` or `super()`."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "super"
    return isinstance(value, ast.Name) and value.id in ("self", "cls")
