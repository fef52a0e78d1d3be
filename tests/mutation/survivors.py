"""The mutants that may survive, each with the reason: `survivors.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LISTED = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True, slots=True)
class Survivor:
    """`equivalent`: nothing that anybody could see is changed. Else other tests see it, or the loss is harmless."""

    file: str
    name: str
    equivalent: bool
    reason: str


def survivors() -> Iterator[Survivor]:
    """Those that are listed. One reason may be that of several."""
    for entry in tomllib.loads(LISTED.read_text("utf-8")).get("survivor", ()):
        for name in entry["mutants"]:
            yield Survivor(entry["file"], name, entry["equivalent"], entry["reason"])


SURVIVORS = {(each.file, each.name): each for each in survivors()}
