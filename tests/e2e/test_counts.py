"""What an order asks of PostgreSQL, counted on the wire between real processes and a real server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from benchmarks.counting import ALONE, Counted, count
from benchmarks.system import HERE
from orderflow.local.home import Home
from tests.support.bounds import BOUNDS
from tests.support.kafka import give_jars

MOMENTS = ("at_rest", "alone", "at_50_a_second")


@pytest.fixture(scope="module")
def counted(carrier_jars: Path | None) -> tuple[str, dict[str, Counted]]:
    """On which log, and what was counted at each moment."""
    transport = "kafka" if carrier_jars else "postgres"
    prepare: Callable[[Path], None] | None = partial(with_jars, carrier_jars) if carrier_jars else None
    found = count(HERE, transport, (ALONE, 50), seconds=5, rest_s=5, ask_server=False, prepare=prepare)
    return transport, dict(zip(MOMENTS, found, strict=True))


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_database_is_asked_more_often_than_its_bound(counted: tuple[str, dict[str, Counted]], moment: str) -> None:
    transport, moments = counted
    bounds = BOUNDS["round_trips"][transport][moment]
    found = moments[moment]

    assert found.trips().keys() <= bounds.keys()
    over = {name: trips for name, trips in found.trips().items() if trips > bounds[name]}
    assert over == {}, "\n".join(explained(found, name, bounds[name]) for name in over)


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_database_has_more_transactions_than_its_bound(
    counted: tuple[str, dict[str, Counted]], moment: str
) -> None:
    transport, moments = counted
    bounds = BOUNDS["transactions"][transport][moment]

    assert {name: each for name, each in moments[moment].transactions().items() if each > bounds[name]} == {}


def explained(found: Counted, database: str, bound: float) -> str:
    statements = [f"{each:7.2f}  {name}" for name, each in found.statements(database).items()]
    return "\n".join([f"{database}, {found.name}: {found.trips()[database]:.1f}, allowed {bound}", *statements])


def with_jars(libs: Path, home: Path) -> None:
    Home.open(home)
    give_jars(libs, home)
