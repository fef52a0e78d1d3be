"""`orderflow up`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from orderflow.cli.options import game_day_option, home_option, load_settings_for_up, take_over_option
from orderflow.registry import service_names

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class ProcessCount(click.ParamType[tuple[str, int]]):
    """`order=2`."""

    name = "service=n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        service, _, count = str(value).partition("=")
        if service not in service_names() or not count.isdecimal() or not 1 <= int(count) <= 32:
            self.fail(
                f"{value!r}: wanted: SERVICE=N with N from 1 to 32, SERVICE one of {', '.join(service_names())}"
            )
        return service, int(count)


def _port_options(command: Decorated) -> Decorated:
    for name in reversed(service_names()):
        shown = f"Port of the service {name} (0: any)."
        command = click.option(f"--{name}-port", type=click.IntRange(0, 65535), help=shown)(command)
    return command


@click.command(
    epilog="""\b
Examples:
  orderflow up                                 everything, data in .orderflow
  orderflow up --detach                        the same in the background
  orderflow up --kafka                         on a real Apache Kafka (Java 17 and Maven needed)
  orderflow up --kafka-bootstrap broker:9092   on a Kafka that exists
  orderflow up --database-url postgresql://admin:secret@db:5432
  orderflow up --processes payment=2           two processes share the work
  orderflow up --drain                         finish what is under way, then stop
  orderflow up --game-day                      faults can be put in with `orderflow fault`

\b
Exit codes: 0 stopped in order; 1 something is in the way; 2 wrong usage or settings;
130 ended at once by a second Ctrl-C."""
)
@click.option("--detach", "-d", is_flag=True, help="Return when everything is ready; `orderflow down` stops it.")
@click.option("--kafka", is_flag=True, help="Carry the events by a local Apache Kafka, started here.")
@click.option("--kafka-bootstrap", metavar="HOST:PORT", help="Carry the events by a Kafka that exists.")
@click.option("--database-url", metavar="URL", help="Use a PostgreSQL server that exists.")
@home_option
@_port_options
@click.option("--processes", type=ProcessCount(), multiple=True, help="How many processes of a service.")
@click.option("--drain", is_flag=True, help="Run until nothing is under way, then stop.")
@game_day_option
@take_over_option
@click.option("--in-background", is_flag=True, hidden=True, help="It is what --detach has started: lines have times.")
def up(
    detach: bool,
    kafka: bool,
    kafka_bootstrap: str | None,
    database_url: str | None,
    home: Path | None,
    processes: tuple[tuple[str, int], ...],
    drain: bool,
    game_day: bool | None,
    take_over_topics: bool,
    in_background: bool,
    **ports: int | None,
) -> int:
    """Start everything on this machine, and keep it running.

    PostgreSQL and every service, each as a process of its own; Ctrl-C ends all of them in order. Data
    stays in one folder. A process that dies is started again.
    """
    from orderflow.local import reporter
    from orderflow.local.detach import start_detached
    from orderflow.local.fleet import Fleet, UpOptions
    from orderflow.local.preparation import RealPreparation
    from orderflow.local.run import Run

    if kafka and kafka_bootstrap is not None:
        raise click.UsageError("--kafka starts a broker, --kafka-bootstrap uses one that exists: give one of them")
    transport = "kafka" if kafka or kafka_bootstrap is not None else None
    given = {"database_url": database_url, "game_day": game_day, "kafka_bootstrap": kafka_bootstrap}
    settings = load_settings_for_up(home, {**ports, **given, "transport": transport})
    options = UpOptions(own_broker=kafka, drain=drain, take_over=take_over_topics, processes=dict(processes))
    with reporter.for_output(timed=in_background) as output:
        if detach:
            start_detached(settings, options, output)
            return 0
        return asyncio.run(Run(settings, options, output, RealPreparation(), Fleet()).run())
