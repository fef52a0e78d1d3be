"""What the documents tell people to type exists."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from orderflow.bank import APPROVED, DECLINED, MISBEHAVING, REFUND_FAILS
from orderflow.cli import main
from tests.architecture.sources import PROJECT, short

DOCUMENTS = [
    path
    for path in (*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "examples").rglob("*.md"))
    if "adr" not in path.parts
]
FOR_OPERATORS = (PROJECT / "docs" / "operations.md", PROJECT / "docs" / "runbook.md")
RUN_BY_TESTS = "\n".join(
    path.read_text(encoding="utf-8")
    for layer in ("integration", "e2e", "unit/cli", "browser")
    for path in (PROJECT / "tests" / layer).glob("*.py")
)
COMMAND = re.compile(
    r"(?:^|[`$ ]\s*)orderflow(?! +import\b)((?: +(?:[a-z][a-z-]*|--[a-z-]+))+)([^\n`#|]*)", re.MULTILINE
)
OPTION = re.compile(r"--[a-z][a-z-]*")
SCRIPT = re.compile(r"(?:^|[\s`])\./([\w./-]+\.(?:sh|py|cmd))", re.MULTILINE)
SECTION = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)#([^)\s]+)\)")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def test_every_command_that_a_document_names_exists() -> None:
    said = [(short(path), words) for path in DOCUMENTS for words in commands_of(path)]

    assert said
    assert [f"{where}: orderflow {' '.join(words)}" for where, words in said if not exists(words)] == []


def test_every_script_and_file_that_a_document_names_exists() -> None:
    named = [
        (short(path), folder / name)
        for path in DOCUMENTS
        for pattern, folder in ((SCRIPT, PROJECT), (LINK, path.parent))
        for name in pattern.findall(path.read_text(encoding="utf-8"))
    ]

    assert [f"{where}: {target.name}" for where, target in named if not target.resolve().exists()] == []


def test_every_link_to_a_section_leads_to_one() -> None:
    led = [
        (short(path), path.parent / page if page else path, section)
        for path in DOCUMENTS
        for page, section in SECTION.findall(path.read_text(encoding="utf-8"))
    ]

    assert led
    assert [f"{where}: #{section}" for where, page, section in led if section not in sections_of(page)] == []


def sections_of(page: Path) -> set[str]:
    """As GitHub names them: lower case, words joined by hyphens, without punctuation."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_command_that_operators_are_told_is_run_by_a_test() -> None:
    """Its words stand one after the other in a test, as somebody would type them, and each option stands in one."""
    said = [words for page in FOR_OPERATORS for words in commands_of(page) if exists(words)]

    assert said
    assert [f"orderflow {' '.join(words)}" for words in said if not is_run(words)] == []


def is_run(words: list[str]) -> bool:
    path = r",\s*".join(f'"{re.escape(word)}"' for word in command_words(words))
    called = re.search(rf'[(\[](?:\w+, |.*"orderflow", )?\s*{path}', RUN_BY_TESTS)
    return called is not None and all(f'"{word}"' in RUN_BY_TESTS for word in words if word.startswith("--"))


def command_words(words: list[str]) -> list[str]:
    """Those that lead to the command, without what is given to it."""
    command: click.Command = main
    found: list[str] = []
    for word in words:
        inner = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if inner is None:
            break
        command = inner
        found.append(word)
    return found


def commands_of(path: Path) -> Iterator[list[str]]:
    """The words after `orderflow`, in code only: prose may say what it likes. What is given to it is left out."""
    for code in re.findall(r"```.*?```|`[^`\n]+`", path.read_text(encoding="utf-8"), re.DOTALL):
        for said, rest in COMMAND.findall(code):
            yield [*said.split(), *OPTION.findall(rest)]


def exists(words: list[str]) -> bool:
    """Whether the words lead to a command, and its options are its own."""
    command: click.Command = main
    context = click.Context(command)
    names = [word for word in words if not word.startswith("--")]
    for name in names:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(context, name)
        if found is None:
            return False
        command = found
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return all(word in options or word in ("--help", "--version") for word in words if word.startswith("--"))


def test_the_test_that_the_page_on_services_shows_is_the_one_of_the_example_and_passes() -> None:
    page = (PROJECT / "docs" / "adding-a-service.md").read_text("utf-8")
    (shown,) = re.findall(r"^```python\n(.+?)^```$", page, re.MULTILINE | re.DOTALL)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/shipping"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=300)

    assert (PROJECT / "examples" / "shipping" / "test_shipping.py").read_text("utf-8").endswith(f"\n{shown}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_payment_methods_that_documents_name_are_those_of_the_simulated_bank() -> None:
    named = {name for path in DOCUMENTS for name in re.findall(r"\bpm_\w+", path.read_text("utf-8"))}
    assert named <= APPROVED | DECLINED.keys() | MISBEHAVING | {REFUND_FAILS}
    assert named >= MISBEHAVING
