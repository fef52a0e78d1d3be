"""The OpenAPI documents of all services and the AsyncAPI document of their events, made without running anything, and
what Redocly's linter and AsyncAPI's own parser say of them.

python -m scripts.lint_api            lint them; where there is no Node, or no registry, that is said and passes
python -m scripts.lint_api FOLDER     write them into a folder
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orderflow.core.service import Service
from orderflow.core.telemetry import Signals
from orderflow.core.timing import SystemClock
from orderflow.http.faults import Faults
from orderflow.http.openapi import Json, document_of
from orderflow.http.operation import Operation
from orderflow.http.operators.operators import operator_operations
from orderflow.http.operators.proposals import Proposals
from orderflow.http.operators.queues import Queues
from orderflow.observability.metrics import Metrics
from orderflow.runtime.definition import ServiceConfig, ServiceContext
from orderflow.runtime.health import HealthCheck, health_operations, metrics_operation
from orderflow.schema.asyncapi import asyncapi_of
from orderflow.services.inventory.service import SERVICE as INVENTORY
from orderflow.services.notification.service import SERVICE as NOTIFICATION
from orderflow.services.order.service import SERVICE as ORDER
from orderflow.services.payment.service import SERVICE as PAYMENT
from scripts.check import say

OF_OPERATIONS = Path(__file__).resolve().parent / "redocly"
OF_EVENTS = Path(__file__).resolve().parent / "asyncapi"
EVENTS = "asyncapi"
INSTALL_TIMEOUT_S = 60
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
SERVICES = (ORDER, PAYMENT, INVENTORY, NOTIFICATION)


def documents() -> Mapping[str, Json]:
    """What each service serves at /openapi.json: `order` at its public door, `order-ops` at its operators'."""
    found: dict[str, Json] = {}
    for each in SERVICES:
        found[each.name], found[f"{each.name}-ops"] = _document(each), _ops(each)
    return found


def _document(service: Service) -> Json:
    behind = [each for each in operations_of(service) if not each.is_for_operators]
    return document_of(service.title or service.name, version("orderflow"), behind)


def _ops(service: Service) -> Json:
    behind = [each for each in operations_of(service) if each.is_for_operators]
    return document_of(f"{service.title or service.name}, for operators", version("orderflow"), behind)


class _Away:
    """What operations need only when they are called."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: object, **__: object) -> Any:
        return self


def operations_of(service: Service) -> Sequence[Operation]:
    """All that it offers, on a game day too. None of it can be called."""
    away: Any = _Away()
    clock = SystemClock()
    context = ServiceContext(
        config=ServiceConfig(),
        database=away,
        store=away,
        clock=clock,
        signals=Signals(),
        rng=random.Random(1),  # noqa: S311  (no secret)
        stopping=away,
        commands=away,
    )
    queues = Queues(service, away, away)
    return (
        *(service.api(context) if service.api is not None else ()),
        *operator_operations(service, away, away, queues),
        *Faults(service, away, clock).operations(),
        *Proposals(away, away).operations(),
        *health_operations(HealthCheck(clock)),
        metrics_operation(Metrics(service.name), tuple),
    )


def main(arguments: list[str]) -> int:
    if arguments:
        write(Path(arguments[0]))
        return 0
    node = shutil.which("node")
    problem = "there is no Node" if node is None else install(OF_OPERATIONS) or install(OF_EVENTS)
    if node is None or problem:
        say(f"skipped: {problem}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        events = Path(folder) / f"{EVENTS}.json"
        operations = [str(each) for each in sorted(Path(folder).iterdir()) if each != events]
        redocly = installed(OF_OPERATIONS) / "node_modules" / "@redocly" / "cli" / "bin" / "cli.js"
        commands = (
            [node, str(redocly), "lint", f"--config={OF_OPERATIONS / 'redocly.yaml'}", *operations],
            [node, str(OF_EVENTS / "lint.mjs"), str(installed(OF_EVENTS)), str(events)],
        )
        return max(subprocess.run(each, check=False, env={**os.environ, **QUIET}).returncode for each in commands)  # noqa: S603  (ours)


def write(folder: Path) -> None:
    """Raises OSError."""
    for name, document in {**documents(), EVENTS: asyncapi_of(SERVICES, version("orderflow"))}.items():
        (folder / f"{name}.json").write_text(json.dumps(document, indent=2), encoding="utf-8")


def installed(linter: Path) -> Path:
    return Path(sys.prefix) / linter.name


def install(linter: Path) -> str:
    """Of the versions and with the hashes that are locked. Says why it cannot be, else nothing."""
    npm, place = shutil.which("npm"), installed(linter)
    if npm is None:
        return "there is no npm"
    place.mkdir(exist_ok=True)
    wanted, lock = (linter / "package-lock.json").read_bytes(), place / "package-lock.json"
    if (place / "node_modules").is_dir() and lock.exists() and lock.read_bytes() == wanted:
        return ""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(linter / name, place)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        subprocess.run(  # noqa: S603  (npm)
            command, cwd=place, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        lock.unlink(missing_ok=True)
        return "a linter cannot be installed: there is no registry, or this Node is too old for it"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
