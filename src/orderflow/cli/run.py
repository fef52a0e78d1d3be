"""`orderflow run`."""

from __future__ import annotations

from pathlib import Path

import click

from orderflow.cli.options import game_day_option, home_option, load_settings
from orderflow.registry import service_names


@click.command(
    epilog="""\b
Examples:
  orderflow run order                     on the port of its setting (8001)
  orderflow run payment --port 0          on any free port; shares the work with other processes
  ORDERFLOW_DATABASE_URL=postgresql://any:secret@db:5432 orderflow run order

\b
Standard output gets one JSON line when the service is ready: service, port, pid. SIGTERM drains it.
Exit codes: 0 stopped in order; 1 failed, or the port is taken; 2 wrong usage or settings;
3 the schema is behind: run `orderflow migrate`; 86 died at the point of ORDERFLOW_CRASH_AT."""
)
@click.argument("name", type=click.Choice(service_names()))
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 for any free one.")
@home_option
@click.option("--control-pipe", is_flag=True, help="Drain when standard input ends: for supervisors.")
@game_day_option
def run(name: str, port: int | None, home: Path | None, control_pipe: bool, game_day: bool | None) -> int:
    """Run one service alone, for deployment.

    Database and log are those of the settings; where `orderflow up` runs on this home, its own. What carries the
    events is what the home runs on; a setting that says something else is refused.
    """
    from orderflow.local.attach import attached
    from orderflow.registry import service_of
    from orderflow.runtime.process import run_process

    settings = attached(load_settings(home, {"game_day": game_day}))
    return int(run_process(service_of(name), settings, port=port, control_pipe=control_pipe))
