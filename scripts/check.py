"""All that can be said about the code without running it: style, format, types, imports, and the house rules.

    ./check.sh            everything
    ./check.sh --fix      mend style and format first, as far as ruff can

Ends with 0 when all is well, else with 1, having shown what each failing check said.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable

FIXES: tuple[tuple[str, Sequence[str]], ...] = (
    ("style, mended", ("ruff", "check", "--fix", "--quiet", ".")),
    ("format, mended", ("ruff", "format", "--quiet", ".")),
)
CHECKS: tuple[tuple[str, Sequence[str]], ...] = (
    ("style", ("ruff", "check", ".")),
    ("format", ("ruff", "format", "--check", ".")),
    ("imports", ("importlinter.cli", "lint")),
    ("types", ("mypy",)),
    ("API documents", ("scripts.lint_api",)),
    ("events", ("orderflow", "schema", "check", "--against", "docs/releases/asyncapi.json")),
    ("signals", ("scripts.signals",)),
    ("house rules", ("pytest", "-q", "--no-header", "tests/architecture")),
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./check.sh", description="Check the code without running it.")
    parser.add_argument("--fix", action="store_true", help="mend style and format first")
    steps = (*FIXES, *CHECKS) if parser.parse_args(arguments).fix else CHECKS
    failed = [name for name, module in steps if not passes(name, module)]
    if failed:
        say(f"check failed: {', '.join(failed)}")
    return 1 if failed else 0


def passes(name: str, module: Sequence[str]) -> bool:
    """Run one check; show what it says only if it fails."""
    started = time.monotonic()
    done = subprocess.run(  # noqa: S603  # the commands are those above
        command_of(module), cwd=PROJECT, capture_output=True, text=True, check=False
    )
    verdict = "ok" if done.returncode == 0 else "FAILED"
    say(f"check: {name:<15} {verdict:<7} {time.monotonic() - started:5.1f} s")
    if done.returncode == 0 and done.stdout.startswith("skipped: "):
        say(f"       {done.stdout.rstrip()}")
    if done.returncode != 0:
        say(f"{done.stdout}{done.stderr}".rstrip())
    return done.returncode == 0


def command_of(module: Sequence[str]) -> list[str]:
    """import-linter has no `python -m`; its command line is a function."""
    if module[0] == "importlinter.cli":
        return [PYTHON, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-logo"]
    return [PYTHON, "-m", *module]


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
