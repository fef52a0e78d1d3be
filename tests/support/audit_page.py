"""The page docs/audit.md: its table of kinds is made from the catalogue that the audit goes by.

`python -m tests.support.audit_page` writes it.
"""

from __future__ import annotations

from pathlib import Path

from orderflow.audit.findings import CATALOGUE, Kind, KindInfo

PAGE = Path(__file__).resolve().parents[2] / "docs" / "audit.md"
BEGIN = "<!-- kinds, made by: python -m tests.support.audit_page -->"
END = "<!-- end of kinds -->"


def table() -> str:
    """A row a kind, in the order of the code."""
    rows = ["| kind | promise | what it is | what to do |", "|---|---|---|---|"]
    for kind, info in ((kind, CATALOGUE[kind]) for kind in Kind):
        rows.append(f"| `{kind}` | {int(info.promise)} | {info.what} | {_remedy(info)} |")
    return "\n".join(rows)


def page() -> str:
    """The page as it is, with the table as it has to be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def _remedy(info: KindInfo) -> str:
    return "the services repair it, with `--repair`" if info.repair else info.remedy


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
