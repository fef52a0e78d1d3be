"""The services: whether each is ready, and what it says hinders it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from orderflow.cli.checks.verdict import FAILED, OK, SKIPPED, Verdict
from orderflow.cli.errors import CliError, UnreachableError
from orderflow.cli.running import client_of
from orderflow.registry import service_names
from orderflow.settings import Settings

TIMEOUT_S = 5.0


def services(running: Settings) -> Iterator[Verdict]:
    """One that is away is a fault only where others are there."""
    with ThreadPoolExecutor(len(service_names())) as threads:
        verdicts = list(threads.map(lambda name: _one(running, name), service_names()))
    if all(verdict.verdict == SKIPPED for verdict in verdicts):
        yield Verdict("services", SKIPPED, "none runs", "Start them with: orderflow up")
        return
    for verdict in verdicts:
        is_away = verdict.verdict == SKIPPED
        yield Verdict(verdict.check, FAILED, verdict.found, verdict.advice) if is_away else verdict


def _one(running: Settings, name: str) -> Verdict:
    check, url = f"service {name}", running.service_url(name)
    try:
        with client_of(running, name, timeout_s=TIMEOUT_S) as client:
            health = client.ask("GET", "/health/ready", good=(503,)).body
    except UnreachableError as error:
        return Verdict(check, SKIPPED, str(error), f"See why with: orderflow logs {name}")
    except CliError as error:
        return Verdict(check, FAILED, str(error), f"See why with: orderflow logs {name}")
    problems = health.get("problems") if isinstance(health, dict) else {"answer": "is not understood"}
    if problems:
        said = "; ".join(f"{component}: {problem}" for component, problem in problems.items())
        return Verdict(check, FAILED, said, f"It waits and goes on by itself; more with: orderflow logs {name}")
    return Verdict(check, OK, f"ready at {url}")
