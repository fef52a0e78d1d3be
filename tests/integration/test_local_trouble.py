"""What must not stop a supervisor: an output that fails, a service that cannot start, a disk that is full."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.up import Up, supervised
from tests.support.waiting import eventually

DISK_MB = 260


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with supervised(tmp_path / "home") as made:
        yield made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", str(folder)]
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("a file system of its own is mounted by root, on Linux")
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def asked(home: Path, command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")}
    return subprocess.run(
        [sys.executable, "-m", "orderflow", command, "--json", "--home", str(home)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )


def status(home: Path) -> tuple[int, dict[str, Any]]:
    """The exit code of `orderflow status --json`, and what it answers."""
    done = asked(home, "status")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def fill(pipe: int) -> None:
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, b"." * 4096)
    os.set_blocking(pipe, True)


@pytest.mark.parametrize("trouble", ["its reader is gone", "its reader is stuck", "its disk is full"])
async def test_whatever_becomes_of_its_output_what_dies_is_started_again(up: Up, trouble: str) -> None:
    reading, writing = os.pipe()
    if trouble == "its disk is full":
        os.close(writing)
        writing = os.open("/dev/full", os.O_WRONLY)
    up.start(output=writing)
    try:
        if trouble == "its reader is gone":
            os.close(reading)
        pids = await up.ready()
        if trouble == "its reader is stuck":
            fill(writing)
        for name in ("payment", "postgres", "order"):
            os.kill(pids[name], signal.SIGKILL)
            await up.back(name, pids[name])
        assert up.end() in {0, 141}
    finally:
        os.close(writing)
        if trouble != "its reader is gone":
            os.close(reading)


async def test_what_does_not_run_is_down_in_its_status(up: Up) -> None:
    up.start()
    pids = await up.ready()
    (up.home / "payment.crash").touch()
    os.kill(pids["payment"], signal.SIGKILL)
    await eventually(lambda: "payment did not start" in up.said())

    code, found = status(up.home)
    rows = {each["name"]: each for each in found["processes"]}
    assert code == 1
    assert rows["payment"]["state"] == "down"
    assert rows["payment"]["pid"] is None
    assert rows["payment"]["problems"]["process"].startswith("payment did not start: it was told to fail")
    assert set(rows) == set(pids)


async def test_a_full_disk_is_one_sentence_and_what_stopped_comes_back_when_there_is_room(small_disk: Path) -> None:
    with supervised(small_disk / "home") as up:
        up.said_file = small_disk.parent / "said"
        up.start()
        pids = await up.ready()
        rest = small_disk / "rest"
        with rest.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"." * 65536):
                pass
        for name in ("postgres", "payment"):
            os.kill(pids[name], signal.SIGKILL)
        await eventually(lambda: "the disk is full" in up.said())

        def told() -> bool:
            code, found = status(up.home)
            rows = {each["name"]: each for each in found["processes"]}
            assert code == 1
            assert rows["postgres"]["state"] == "down"
            assert "is full: 0 MB free" in found["problems"]["disk"]
            return True

        await eventually(told)
        assert "is full: 0 MB free" in asked(up.home, "health").stderr

        rest.unlink()
        await up.back("postgres", pids["postgres"])
        await up.back("payment", pids["payment"])
        assert "disk" not in status(up.home)[1]["problems"]
        assert up.end() == 0
