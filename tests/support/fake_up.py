"""`up` with stand-ins for the services: everything else is real."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from uuid import UUID

from orderflow.local.errors import LocalError
from orderflow.local.postgres import EmbeddedPostgres
from orderflow.local.preparation import Preparation, make_databases
from orderflow.local.reporter import PlainReporter
from orderflow.local.run import LocalRun
from orderflow.local.supervisor import Fleet, UpOptions
from orderflow.settings import Settings

SERVICE = Path(__file__).with_name("fake_service.py")


class DatabasesOnly(Preparation):
    """No tables and no topics. The file `under_way` in the home holds what is not finished, a line each."""

    async def databases(self, settings: Settings, server: EmbeddedPostgres | None) -> UUID:
        await make_databases(settings, server)
        return UUID(int=1)

    async def topics(self, settings: Settings, installation: UUID, *, take_over: bool) -> None:
        return None

    async def under_way(self, settings: Settings) -> list[str]:
        file = settings.home / "under_way"
        return file.read_text("utf-8").splitlines() if file.exists() else []


def main(arguments: list[str]) -> int:
    settings = Settings.load(environ=os.environ, remember=False)
    options = UpOptions(own_broker="--kafka" in arguments, drain="--drain" in arguments)
    fleet = Fleet(lambda name: [sys.executable, str(SERVICE), name])
    try:
        return asyncio.run(LocalRun(settings, options, PlainReporter(), DatabasesOnly(), fleet).run())
    except LocalError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
