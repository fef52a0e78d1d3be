"""Nothing of the machine on which it was written stands in the project."""

from __future__ import annotations

import re

from tests.architecture.sources import kept_files, short

TRACES = re.compile(
    r"/(?:root|home|Users)/\w+/|/work/\w+|/tmp/\w+/\w+"
    r"|https?://[^/\s\"']*(?:artifactory|nexus|jfrog|mirror|registry|proxy)[^\s\"']*"
    r"|--(?:index-url|extra-index-url|find-links|trusted-host)\s+\S+",
    re.IGNORECASE,
)
ALLOWED = re.compile(r"/home/(?:orderflow|app|ada)/")
WORDS_OF_WORK = re.compile(r"\b(?:TODO|FIXME|HACK)\b")
OTHERS = "src/orderflow/http/swagger_ui/"
"""Not written here; kept as it came."""
THIS = "tests/architecture/test_traces.py"


def test_no_file_names_a_path_of_a_machine_or_the_host_of_a_registry() -> None:
    assert [found for found in matches(TRACES) if not ALLOWED.search(found)] == []


def test_nothing_is_left_to_do_in_a_comment() -> None:
    assert [found for found in matches(WORDS_OF_WORK) if not found.startswith(OTHERS)] == []


def matches(pattern: re.Pattern[str]) -> list[str]:
    found: list[str] = []
    for path in kept_files():
        if short(path) == THIS:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            hit = pattern.search(line)
            if hit is not None:
                found.append(f"{short(path)}:{number}: {hit[0]}")
    return found
