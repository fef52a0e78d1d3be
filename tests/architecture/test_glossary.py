"""One thing, one word: the glossary names what exists, and no two classes share a name."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.architecture.sources import PACKAGE, PROJECT, python_files, tree

PAGE = PROJECT / "docs" / "glossary.md"
ROW = re.compile(r"^\| (?!word \|)([^|-][^|]*) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
PLACE = re.compile(r"`([\w/]+\.py)`((?:,? `[\w.]+`)*)")
CODE = re.compile(rf"{PLACE.pattern}(?:, {PLACE.pattern})*")
NAME = re.compile(r"`([\w.]+)`")


class Word(NamedTuple):
    """An entry of the page; `places` are files of the package, each with the names that it is to have."""

    words: Sequence[str]
    places: Sequence[tuple[str, Sequence[str]]]


def entries() -> Sequence[Word]:
    return [
        Word(word.split(", "), [(file, NAME.findall(names)) for file, names in PLACE.findall(code)])
        for word, _, code in ROW.findall(PAGE.read_text("utf-8"))
    ]


def names_in(file: str) -> frozenset[str]:
    """Classes, functions and methods (as `Class.method`) of a file of the package."""
    return frozenset(_names(tree(PACKAGE / file).body, "")) if (PACKAGE / file).is_file() else frozenset()


def _names(body: Sequence[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from _names(node.body, f"{node.name}.")


def test_every_line_of_its_tables_is_read() -> None:
    page = PAGE.read_text("utf-8")
    lines = [line for line in page.splitlines() if line.startswith("|") and not line.startswith(("| word |", "|---"))]

    assert len(lines) == len(entries())
    assert [code for _, _, code in ROW.findall(page) if not CODE.fullmatch(code)] == []


def test_each_word_stands_there_once() -> None:
    words = Counter(word.lower() for entry in entries() for word in entry.words)

    assert words
    assert [word for word, times in words.items() if times > 1] == []


def test_what_the_glossary_names_in_the_code_exists() -> None:
    assert [
        f"{entry.words[0]}: {file} {name}"
        for entry in entries()
        for file, names in entry.places
        for name in names or ("",)
        if (name and name not in names_in(file)) or not (PACKAGE / file).is_file()
    ] == []


def test_every_module_of_the_core_has_its_word() -> None:
    named = {file for entry in entries() for file, _ in entry.places}
    files = {path.relative_to(PACKAGE).as_posix() for path in (PACKAGE / "core").rglob("[a-z]*.py")}

    assert files
    assert sorted(files - named) == []


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for path in python_files("src/orderflow"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(path.relative_to(PACKAGE).as_posix())

    assert places
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
