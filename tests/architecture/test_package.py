"""What is installed is whole: every file of the package that is no Python module is declared as its data."""

from __future__ import annotations

import tomllib

from tests.architecture.sources import PACKAGE, PROJECT, kept_files


def test_every_file_of_the_package_is_installed_with_it() -> None:
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    patterns = declared["orderflow"]
    files = {path for path in kept_files() if path.is_relative_to(PACKAGE) and path.suffix != ".py"}
    installed = {path for pattern in patterns for path in PACKAGE.glob(pattern)}

    assert files
    assert sorted(path.relative_to(PACKAGE).as_posix() for path in files - installed) == []
    assert [pattern for pattern in patterns if not list(PACKAGE.glob(pattern))] == []
