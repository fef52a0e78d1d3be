"""What an order asks of PostgreSQL, counted on the wire between real processes and a real server."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
def counted(broker_jars: Path | None) -> tuple[str, dict[str, Counted]]:
    """On which log, and what was counted at each moment."""
    transport = "kafka" if broker_jars else "postgres"
    prepare: Callable[[Path], None] | None = partial(with_jars, broker_jars) if broker_jars else None
    found = count(HERE, transport, (ALONE, 50), seconds=5, rest_s=5, ask_server_from=50, prepare=prepare)
    return transport, dict(zip(MOMENTS, found, strict=True))


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_database_is_asked_more_often_than_its_bound(counted: tuple[str, dict[str, Counted]], moment: str) -> None:
    transport, moments = counted
    found = moments[moment]

    said = over(found, found.trips(), BOUNDS["round_trips"][transport][moment])
    assert not said, said


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_database_has_more_transactions_than_its_bound(
    counted: tuple[str, dict[str, Counted]], moment: str
) -> None:
    transport, moments = counted
    found = moments[moment]

    said = over(found, found.transactions(), BOUNDS["transactions"][transport][moment])
    assert not said, said


def test_no_session_is_woken_for_what_it_does_not_read(counted: tuple[str, dict[str, Counted]]) -> None:
    """The server itself counts no more than is seen on the wire, but for what runs on while it is waited for."""
    transport, moments = counted
    found = moments["at_50_a_second"]
    seen = sum(found.counts.transactions.values()) / found.per

    assert sum(found.transactions().values()) <= seen + BOUNDS["transactions"][transport]["unseen"]


def over(found: Counted, values: Mapping[str, float], bounds: Mapping[str, float]) -> str:
    """The databases that are asked too much, with all that they are asked."""
    said: list[str] = []
    if (total := sum(values.values())) > bounds.get("all", math.inf):
        said.append(f"all, {found.name}: {total:.1f}, allowed {bounds['all']}")
    for database, value in values.items():
        if value > bounds.get(database, 0):
            statements = [f"{each:7.2f}  {name}" for name, each in found.statements(database).items()]
            said += [f"{database}, {found.name}: {value:.1f}, allowed {bounds.get(database, 0)}", *statements]
    return "\n".join(said)


def with_jars(libs: Path, home: Path) -> None:
    Home.open(home)
    give_jars(libs, home)
