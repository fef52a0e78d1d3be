"""Commands that the page runs for a person: what the command line does, it does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command printed. `problem` is its sentence where it could not do its work."""

    output: str
    problem: str = ""


async def run(home: Path, *arguments: str) -> Ended:
    """`orderflow ARGUMENTS --home HOME --json`, or without `--json` if what is wanted is no document."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "orderflow",
        *arguments,
        "--home",
        str(home),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, said = await process.communicate()
    except TimeoutError:
        return Ended(
            "", f"It took longer than {TIMEOUT_S:g} s. Run it in a terminal: orderflow {' '.join(arguments)}"
        )
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(output.decode(errors="replace"), _sentence(said.decode(errors="replace")))


def _sentence(said: str) -> str:
    """Of what stands on standard error: the error as JSON, or as a line."""
    last = said.strip().splitlines()[-1] if said.strip() else ""
    try:
        return str(json.loads(last)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return last.removeprefix("Error: ")
