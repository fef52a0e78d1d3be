"""The page docs/problems.md, made from the table of problems.

`python -m tests.support.problems_page` writes it.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

from orderflow.http.operation import ALL, PROBLEMS, ProblemType

PAGE = Path(__file__).resolve().parents[2] / "docs" / "problems.md"

HEAD = f"""# Problems

Made by `python -m tests.support.problems_page` from the table in `http/operation.py`; a test compares.

Every error is answered with a problem document (RFC 9457, `application/problem+json`). Its `type` is the path of a
page on every service; `{PROBLEMS}` lists them all. Clients should go by `type`; `title` and `detail` are for people,
and `errors` names each invalid field (`pointer`, RFC 6901) or parameter.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *map(_part, ALL)])


def _part(problem: ProblemType) -> str:
    meaning, remedy = fill(problem.meaning, 118), fill(f"What to do: {problem.remedy}", 118)
    return f"## {problem.name}\n\nStatus {problem.status}, `{problem.uri}`.\n\n{meaning}\n\n{remedy}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
