"""The project's own files, as the tests of this folder read them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = PROJECT / "src" / "orderflow"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: str) -> Sequence[Path]:
    """All Python files below these folders of the project, without what installing the example has built."""
    every = (path for folder in folders for path in (PROJECT / folder).rglob("*.py"))
    return sorted(path for path in every if "build" not in path.relative_to(PROJECT).parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(tree(path)):
        if isinstance(node, Function):
            yield node


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The string constants with their lines, docstrings left out."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree(path))
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def short(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def kept_files() -> Sequence[Path]:
    """The files under version control, or all that would be, where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        return [path for path in PROJECT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [PROJECT / name for name in listed.stdout.split("\0") if name and (PROJECT / name).is_file()]
