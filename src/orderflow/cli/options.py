"""Options that several commands have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from orderflow.settings import Settings, SettingsError

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
take_over_option = click.option(
    "--take-over-topics",
    is_flag=True,
    help="Make topics and groups this installation's that are another's, which must be gone for good.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on standard output.")


def load_settings(
    home: Path | None = None, overrides: Mapping[str, object] | None = None, *, remember: bool = True
) -> Settings:
    """Of a home that exists, or of none. Raises SettingsError, also when a home is named that is none."""
    settings = Settings.load(environ=os.environ, home=home, overrides=overrides, remember=remember)
    _require_home(settings)
    return settings


def load_settings_for_up(home: Path | None, overrides: Mapping[str, object]) -> Settings:
    """`up` makes a home where there is none, and may move one to another transport. Raises SettingsError."""
    return Settings.load(environ=os.environ, home=home, overrides=overrides, remember=False)


def _require_home(settings: Settings) -> None:
    """Data or settings make a folder a home. A name with a typo must not lead to what listens on the usual ports."""
    named = settings.sources["home"].rpartition(" ")[2]
    path = settings.home
    if not settings.is_given("home") or any((path / name).is_file() for name in ("home.json", "orderflow.toml")):
        return
    why = "it holds neither home.json nor orderflow.toml" if path.is_dir() else "there is no such folder"
    raise SettingsError(
        f"{named} is {path}, which is not a home of Orderflow: {why}. Name one that is, or make it one with: "
        f"orderflow up --home {path}"
    )
