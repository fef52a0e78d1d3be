"""A service as a real process: how it says that it is ready, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import msgspec
import pytest

from tests.support.sample.running import migrate


@asynccontextmanager
async def started(
    url: str, home: Path, *arguments: str, files: str = "", **environ: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`files` is how many files it may have open, for good."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ORDERFLOW_", "PG"))}
    process = await asyncio.create_subprocess_exec(
        *(() if not files else ("sh", "-c", f'ulimit -n {files} && exec "$@"', "sh")),
        sys.executable,
        "-m",
        "tests.support.sample",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            **own,
            "ORDERFLOW_HOME": str(home),
            "ORDERFLOW_ORDER_DATABASE_URL": url,
            "ORDERFLOW_LOG_DATABASE_URL": url,
            "ORDERFLOW_ORDER_PORT": "0",
            "ORDERFLOW_ALLOWED_HOSTS": "x",
            **environ,
        },
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready(process: asyncio.subprocess.Process) -> int:
    """The port of its public door."""
    return (await ready_at_both(process))[0]


async def ready_at_both(process: asyncio.subprocess.Process) -> tuple[int, int]:
    """The ports of its public door and of the operators'."""
    assert process.stdout is not None
    said = await asyncio.wait_for(process.stdout.readline(), 60)
    assert said, (await process.communicate())[1]
    line = msgspec.json.decode(said)
    assert (line["ready"], line["service"], line["pid"]) == (True, "order", process.pid)
    return line["port"], line["ops_port"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_ends_with_0(database_url: str, tmp_path: Path, number: signal.Signals) -> None:
    await migrate(database_url)
    async with started(database_url, tmp_path) as process:
        port = await ready(process)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            await client.post("/counters/a", json={"amount": 1})
        process.send_signal(number)
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
    lines = [msgspec.json.decode(line) for line in errors.splitlines()]
    assert lines[-1]["action"] == "stopped"
    assert {line["level"] for line in lines} == {"info"}


async def test_the_end_of_the_control_pipe_drains_and_ends_with_0(database_url: str, tmp_path: Path) -> None:
    await migrate(database_url)
    async with started(database_url, tmp_path, "--control-pipe") as process:
        await ready(process)
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_it_can_be_stopped_while_it_waits_for_its_database(tmp_path: Path) -> None:
    async with started("postgresql://u:geheim@127.0.0.1:1/d", tmp_path) as process:
        assert process.stderr is not None
        line = b""
        while b'"waiting"' not in line:
            line = await asyncio.wait_for(process.stderr.readline(), 60)
        process.terminate()
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
        assert b"geheim" not in errors


@pytest.mark.parametrize(
    ("environ", "code", "sentence"),
    [
        ({"ORDERFLOW_HOST": "192.0.2.1"}, 2, "ORDERFLOW_INSECURE=yes would let it listen"),
        (
            {"ORDERFLOW_HOST": "192.0.2.1", "ORDERFLOW_INSECURE": "yes"},
            1,
            "192.0.2.1 is not an address of this machine",
        ),
        ({"ORDERFLOW_HOST": "no such host", "ORDERFLOW_INSECURE": "yes"}, 1, "cannot listen on no such host"),
        ({"ORDERFLOW_LOG_FILE": "/dev/null/x.log"}, 2, "log_file /dev/null/x.log cannot be written"),
        ({"ORDERFLOW_ORDER_DATABASE_URL": "postgresql://h/d?sslmode=odd"}, 2, "the database URL of order cannot"),
        ({"ORDERFLOW_ORDER_DATABASE_URL": ""}, 2, "no database for order"),
        ({}, 3, "orderflow migrate"),
    ],
)
async def test_what_hinders_it_for_good_is_one_sentence_and_an_exit_code(
    database_url: str, tmp_path: Path, environ: dict[str, str], code: int, sentence: str
) -> None:
    log = tmp_path / "service.log"
    async with started(database_url, tmp_path, **{"ORDERFLOW_LOG_FILE": str(log), **environ}) as process:
        output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == code, errors
    assert output == b""
    [said] = errors.decode().splitlines()
    assert sentence in said
