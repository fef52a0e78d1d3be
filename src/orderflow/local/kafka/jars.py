"""Kafka's jars, fetched once by Maven."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from orderflow.local import folders
from orderflow.local.child import clean_environment, run
from orderflow.local.errors import LocalError
from orderflow.local.kafka.java import find_maven, java_home

POM = Path(__file__).with_name("pom.xml")
FETCH_TIMEOUT_S = 600.0
STAMP = "fetched-for"


def fetch(folder: Path, tell: Callable[[str], None]) -> Path:
    """The folder `libs` in `folder` with all jars, made where it is missing or of another release.

    Raises LocalError: no Maven, no network, no space.
    """
    libs = folder / "libs"
    wanted = hashlib.sha256(POM.read_bytes()).hexdigest()
    if _stamp(libs) == wanted:
        return libs
    tell("Fetching Apache Kafka with Maven (about 45 MB, once)")
    unfinished = folder / "libs.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    folders.make(unfinished)
    shutil.copyfile(POM, folder / "pom.xml")
    _copy_dependencies(folder, unfinished)
    (unfinished / STAMP).write_text(wanted, encoding="ascii")
    shutil.rmtree(libs, ignore_errors=True)
    unfinished.rename(libs)
    return libs


def _stamp(libs: Path) -> str | None:
    try:
        return (libs / STAMP).read_text(encoding="ascii")
    except OSError:
        return None


def _copy_dependencies(folder: Path, target: Path) -> None:
    command = [str(find_maven()), "-q", "-B", "-f", str(folder / "pom.xml")]
    done = run(
        [*command, "dependency:copy-dependencies", f"-DoutputDirectory={target}"],
        cwd=folder,
        environment=clean_environment(("MAVEN_OPTS",)) | java_home(),
        timeout_s=FETCH_TIMEOUT_S,
    )
    if done.returncode != 0 or not any(target.glob("kafka_*.jar")):
        errors = [line for line in done.stdout.splitlines() if line.startswith("[ERROR]")]
        said = (errors or done.stdout.splitlines() or ["it said nothing"])[0].removeprefix("[ERROR]").strip()
        raise LocalError(f"Maven could not fetch Apache Kafka: {said[:400]}")
