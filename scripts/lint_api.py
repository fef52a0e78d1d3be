"""The OpenAPI documents of all services, made without running them, and what Redocly's linter says of them.

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
from orderflow.http.operators.operators import operator_operations
from orderflow.http.operators.queues import Queues
from orderflow.observability.metrics import Metrics
from orderflow.runtime.definition import ServiceConfig, ServiceContext
from orderflow.runtime.health import HealthCheck, health_operations, metrics_operation
from orderflow.services.inventory.service import SERVICE as INVENTORY
from orderflow.services.notification.service import SERVICE as NOTIFICATION
from orderflow.services.order.service import SERVICE as ORDER
from orderflow.services.payment.service import SERVICE as PAYMENT
from scripts.check import say

LINTER = Path(__file__).resolve().parent / "redocly"
INSTALLED = Path(sys.prefix) / "redocly"
INSTALL_TIMEOUT_S = 60
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
SERVICES = (ORDER, PAYMENT, INVENTORY, NOTIFICATION)


def documents() -> Mapping[str, Json]:
    """By service: the document that it serves at /openapi.json."""
    return {each.name: _document(each) for each in SERVICES}


class _Away:
    """What operations need only when they are called."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: object, **__: object) -> Any:
        return self


def _document(service: Service) -> Json:
    away: Any = _Away()
    clock = SystemClock()
    context = ServiceContext(
        config=ServiceConfig(),
        database=away,
        store=away,
        clock=clock,
        signals=Signals(),
        chance=random.Random(1),  # noqa: S311  (no secret)
        stopping=away,
        commands=away,
    )
    queues = Queues(service, away, away)
    operations = [
        *(service.api(context) if service.api is not None else ()),
        *health_operations(HealthCheck(clock)),
        metrics_operation(Metrics(service.name), tuple),
        *operator_operations(service, away, away, queues),
        *Faults(service, away, clock).operations(),
    ]
    return document_of(service.title or service.name, version("orderflow"), operations)


def main(arguments: list[str]) -> int:
    if arguments:
        write(Path(arguments[0]))
        return 0
    linter = install()
    if isinstance(linter, str):
        say(f"skipped: {linter}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        paths = sorted(map(str, Path(folder).iterdir()))
        command = [*linter, "lint", f"--config={LINTER / 'redocly.yaml'}", *paths]
        return subprocess.run(command, check=False, env={**os.environ, **QUIET}).returncode  # noqa: S603  (ours)


def write(folder: Path) -> None:
    """Raises OSError."""
    for name, document in documents().items():
        (folder / f"{name}.json").write_text(json.dumps(document, indent=2), encoding="utf-8")


def install() -> Sequence[str] | str:
    """The linter's command, of the version and with the hash that are locked; or why there is none."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        return "there is no Node"
    INSTALLED.mkdir(exist_ok=True)
    program = INSTALLED / "node_modules" / "@redocly" / "cli" / "bin" / "cli.js"
    wanted = (LINTER / "package-lock.json").read_bytes()
    lock = INSTALLED / "package-lock.json"
    if program.exists() and lock.exists() and lock.read_bytes() == wanted:
        return (node, str(program))
    for name in ("package.json", "package-lock.json"):
        shutil.copy(LINTER / name, INSTALLED)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        subprocess.run(  # noqa: S603  (npm)
            command, cwd=INSTALLED, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        lock.unlink(missing_ok=True)
        return "the linter cannot be installed: there is no registry, or this Node is too old for it"
    return (node, str(program))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
