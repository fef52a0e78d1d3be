"""A function can be read in one go. How long a file is, its one thought decides."""

from __future__ import annotations

from tests.architecture.sources import functions, python_files, short

FUNCTION_LINES_MAX = 40
CODE = python_files("src", "scripts", "benchmarks", "examples")


def test_a_function_has_at_most_40_lines() -> None:
    lines = {
        f"{short(path)}:{each.name}": (each.end_lineno or 0) - each.lineno + 1
        for path in CODE
        for each in functions(path)
    }

    assert {name: count for name, count in lines.items() if count > FUNCTION_LINES_MAX} == {}
