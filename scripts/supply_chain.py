"""What we are made of, and what is known against it.

python -m scripts.supply_chain sbom     write a CycloneDX bill of materials of the lock to build/sbom.cdx.json
python -m scripts.supply_chain audit    ask PyPI for advisories on what requirements.lock names
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.check import PROJECT, PYTHON, say

LOCK = PROJECT / "requirements.lock"
BILL = PROJECT / "build" / "sbom.cdx.json"
TIMEOUT_S = 120
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def bill() -> Mapping[str, Any]:
    """The bill of materials, written too. The same lock makes the same bytes."""
    BILL.parent.mkdir(exist_ok=True)
    options = ("--mc-type", "application", "--of", "JSON", "--output-reproducible", "-o", str(BILL))
    made = _run("cyclonedx_py", "requirements", str(LOCK), "--pyproject", str(PROJECT / "pyproject.toml"), *options)
    if made.returncode != 0:
        raise SystemExit(made.stdout + made.stderr)
    found: Mapping[str, Any] = json.loads(BILL.read_text("utf-8"))
    return found


def sbom() -> int:
    """1 if a package of the lock is missing in the bill, or is there without a digest."""
    listed = {
        (each["name"].lower(), each["version"]): any(ref.get("hashes") for ref in each.get("externalReferences", []))
        for each in bill()["components"]
    }
    wrong = [f"{name} {version}" for name, version in pinned() if not listed.get((name.lower(), version))]
    if wrong:
        say(f"not in the bill of materials, or without a digest: {', '.join(wrong)}")
    return 1 if wrong else 0


def pinned() -> Sequence[tuple[str, str]]:
    """Name and version of each package of the lock."""
    return _PINNED.findall(LOCK.read_text("utf-8"))


def audit() -> int:
    """1 if an advisory concerns a version that we pin; where none can be had, that is said and passes."""
    try:
        done = _run("pip_audit", "-r", str(LOCK), "--disable-pip", "--progress-spinner", "off", "--format", "json")
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, subprocess.TimeoutExpired):
        say("skipped: PyPI's advisories cannot be had here")
        return 0
    asked = [each for each in packages if "skip_reason" not in each]
    if not asked:
        say("skipped: the package index of this machine has no advisories")
        return 0
    known = [f"{each['name']} {each['version']}: {vuln['id']}" for each in asked for vuln in each["vulns"]]
    say("\n".join(known) or f"nothing is known against {len(asked)} of {len(packages)} packages")
    return 1 if known else 0


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, "-W", "ignore", "-m", module, *arguments]
    return subprocess.run(  # noqa: S603  # the commands are those above
        command, cwd=Path(PROJECT), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


if __name__ == "__main__":
    sys.exit({"sbom": sbom, "audit": audit}[sys.argv[1]]())
