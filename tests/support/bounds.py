"""The bounds that tests hold: all of them stand in `bounds.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

BOUNDS: dict[str, Any] = tomllib.loads((Path(__file__).parent / "bounds.toml").read_text("utf-8"))
