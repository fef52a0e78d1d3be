"""One running system for each transport, shared by all tests that leave it whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.shop import Shop, shopping
from tests.e2e.system import System, running

Start = Callable[..., System]


@pytest.fixture(scope="session", params=["postgres", "kafka"])
def broker_jars(request: pytest.FixtureRequest) -> Path | None:
    """What a system on this transport needs: nothing, or Kafka's jars."""
    libs: Path | None = request.getfixturevalue("kafka_jars") if request.param == "kafka" else None
    return libs


@pytest.fixture(scope="session")
def system(broker_jars: Path | None) -> Iterator[System]:
    """Shared: a test that kills a part of it waits until it is back."""
    yield from running(System(broker_jars))


@pytest.fixture
def own_system() -> Iterator[Start]:
    """Makes systems for one test alone, not started yet."""
    made: list[System] = []

    def make(libs: Path | None = None, *options: str) -> System:
        made.append(System(libs, options))
        return made[-1]

    try:
        yield make
    finally:
        for each in made:
            each.remove()


@pytest.fixture
async def shop(system: System) -> AsyncIterator[Shop]:
    async with shopping(system) as shop:
        yield shop


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the system said."""
    report = yield
    for value in getattr(item, "funcargs", {}).values():
        if isinstance(value, System) and report.failed:
            report.sections.append(("what the system said", value.logs()))
    return report
