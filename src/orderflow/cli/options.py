"""Options that several commands have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from orderflow.settings import Settings

home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of data, logs and settings [ORDERFLOW_HOME, or .orderflow here].",
)
game_day_option = click.option(
    "--game-day",
    is_flag=True,
    default=None,
    help="Let `orderflow fault` put faults in, for rehearsals; not for production.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on standard output.")


def load_settings(home: Path | None = None, overrides: Mapping[str, object] | None = None) -> Settings:
    """Command line over environment over file over default. Raises SettingsError."""
    return Settings.load(environ=os.environ, home=home, overrides=overrides)
