"""Java and Maven, as they are on this machine."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from orderflow.local.child import clean_environment, run
from orderflow.local.errors import LocalError

JAVA_NEEDED = 17

_ADVICE: Final[Mapping[str, str]] = {
    "linux": "on Debian or Ubuntu: apt install openjdk-17-jre-headless maven; on Fedora: dnf install java maven",
    "darwin": "brew install openjdk maven",
    "win32": "winget install EclipseAdoptium.Temurin.17.JRE, and Maven from maven.apache.org",
}


def advice() -> str:
    """How to get both on this system."""
    return _ADVICE.get("linux" if sys.platform.startswith("linux") else sys.platform, "from adoptium.net")


def find_java() -> Path:
    """The `java` of JAVA_HOME or of the path, new enough. Raises LocalError."""
    home = os.environ.get("JAVA_HOME")
    inside = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = inside or shutil.which("java")
    if found is None:
        raise LocalError(f"a local Kafka needs Java {JAVA_NEEDED}, and there is none ({advice()})")
    version = _version_of(Path(found))
    if version < JAVA_NEEDED:
        raise LocalError(
            f"a local Kafka needs Java {JAVA_NEEDED}; {found} is Java {version} ({advice()}; or set JAVA_HOME)"
        )
    return Path(found)


def find_maven() -> Path:
    """Raises LocalError when there is none."""
    found = shutil.which("mvn")
    if found is None:
        raise LocalError(f"a local Kafka is fetched by Maven, and there is no `mvn` ({advice()})")
    return Path(found)


def missing() -> str | None:
    """Why a local Kafka cannot be had here, in a sentence; None when it can."""
    try:
        find_java()
        find_maven()
    except LocalError as error:
        return str(error)
    return None


def _version_of(java: Path) -> int:
    done = run(
        [str(java), "-version"],
        cwd=Path.cwd(),
        environment=clean_environment(("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")),
        timeout_s=30.0,
    )
    found = re.search(r'version "(?:1\.)?(\d+)', done.stdout)
    if done.returncode != 0 or found is None:
        raise LocalError(f"{java} does not run: {done.stdout.strip()[-300:]}")
    return int(found.group(1))
