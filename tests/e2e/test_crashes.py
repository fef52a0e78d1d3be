"""Processes die at crash points, each point once; the whole matrix is `python -m tests.crashes`."""

from __future__ import annotations

from orderflow.core.crash_points import Point
from tests.crashes.cells import Cell, every_cell, part
from tests.crashes.matrix import Matrix, Servers
from tests.support.kafka import KafkaServer
from tests.support.postgres import PostgresServer


async def test_a_service_may_die_at_any_point(postgres: PostgresServer, kafka: KafkaServer) -> None:
    matrix = Matrix(Servers(postgres, kafka.bootstrap))
    verdicts = await matrix.play(part(list(every_cell())))

    assert [str(verdict) for verdict in verdicts if not verdict.holds] == []
    assert {verdict.cell.point for verdict in verdicts} == set(Point)


async def test_a_bug_that_loses_events_in_a_crash_is_seen(postgres: PostgresServer) -> None:
    """Rows are marked as sent before the log has them, and the relay dies in between."""
    matrix = Matrix(Servers(postgres, None), planted=["marks-before-it-appends"])
    [verdict] = await matrix.play([Cell(Point.RELAY_MARKED, "order", "postgres")])

    assert verdict.reached
    assert any("promise 1" in broken for broken in verdict.broken), verdict.broken
