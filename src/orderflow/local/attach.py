"""The settings of what runs on a home, for programs that join or watch it."""

from __future__ import annotations

import dataclasses

from orderflow.local import control
from orderflow.local.addresses import database_url
from orderflow.local.environment import with_embedded
from orderflow.local.home import Home
from orderflow.local.postgres import secrets_of
from orderflow.settings import Settings


def attached(settings: Settings) -> Settings:
    """With the broker and the embedded databases of the run on this home; as given where nothing runs.

    Raises LocalError.
    """
    home = Home(settings.home)
    found = control.running(home)
    if found is None:
        return settings
    joined = settings
    if not settings.is_given("transport"):
        joined = dataclasses.replace(joined, transport="kafka" if found.transport == "kafka" else "postgres")
    if found.bootstrap is not None and not settings.is_given("kafka_bootstrap"):
        joined = dataclasses.replace(joined, kafka_bootstrap=found.bootstrap)
    if found.postgres is None or not settings.embedded:
        return joined
    where, secrets = found.postgres, secrets_of(home.path)
    return with_embedded(joined, lambda name: database_url(where, name, name, secrets.password(name)))
