"""Processes of `orderflow` that start in a tenth of the time: forked from one that has loaded everything.

The near end is `Nursery`. The far end is this module as a program, which has one thread, no event loop and no
connection to share: what it forks is as a fresh process would be. `python -m tests.crashes.nursery [NAME…]` has the
changes NAME planted in what it reads: bugs of the zoo, or `UPKEEP`.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import select
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from tests.zoo.bug import Bug, plant
from tests.zoo.inmates import ZOO

ROOT = Path(__file__).parents[2]
PR_SET_PDEATHSIG = 1
SERVICES = ("order", "payment", "inventory", "notification")
UPKEEP = "hasty-upkeep"
CHANGES: Mapping[str, Bug] = {
    **ZOO,
    UPKEEP: Bug(
        UPKEEP, 1, "No bug: upkeep is due every second.", "core/engine.py", "_EVERY_S = 60.0", "_EVERY_S = 1.0"
    ),
}


class Child:
    """A process that was started; `ended` has its exit code, or minus the signal that ended it."""

    def __init__(self, pid: int, ended: asyncio.Future[int]) -> None:
        self.ended = ended
        self._pid = pid

    def send(self, number: signal.Signals) -> None:
        """Does nothing to one that has ended."""
        if not self.ended.done():
            os.kill(self._pid, number)


class Nursery:
    """Ends with its parent, and its children end with it."""

    def __init__(self, planted: Sequence[str] = ()) -> None:
        self._planted = planted
        self._program: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._born: deque[asyncio.Future[int]] = deque()
        self._ended: dict[int, asyncio.Future[int]] = {}

    async def spawn(self, arguments: Sequence[str], environment: Mapping[str, str], stderr: Path) -> Child:
        """Start `orderflow` with these arguments."""
        if self._program is None:
            await self._start()
        assert self._program is not None
        assert self._program.stdin is not None
        born: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._born.append(born)
        order = {"arguments": list(arguments), "environment": dict(environment), "stderr": str(stderr)}
        self._program.stdin.write(json.dumps(order).encode() + b"\n")
        pid = await born
        return Child(pid, self._ended[pid])

    async def close(self) -> None:
        """Idempotent."""
        if self._program is None:
            return
        if self._program.returncode is None:
            self._program.kill()
        await self._program.wait()
        assert self._listener is not None
        await self._listener

    async def _start(self) -> None:
        self._program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.crashes.nursery", *self._planted),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        self._listener = asyncio.create_task(self._listen(self._program))

    async def _listen(self, program: asyncio.subprocess.Process) -> None:
        assert program.stdout is not None
        async for line in program.stdout:
            told = json.loads(line)
            if "code" in told:
                self._ended[told["pid"]].set_result(told["code"])
            else:
                self._ended[told["pid"]] = asyncio.get_running_loop().create_future()
                self._born.popleft().set_result(told["pid"])


def serve() -> None:
    """Fork what is ordered, tell what has ended; until the input ends."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    orders = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            tell_ends()
        if 0 in ready:
            more = os.read(0, 1 << 20)
            if not more:
                return
            *whole, orders = (orders + more).split(b"\n")
            for order in whole:
                fork(json.loads(order))


def tell_ends() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        tell({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def tell(what: Mapping[str, int]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def fork(order: Mapping[str, Any]) -> None:
    # Told before the child can have ended: nobody hears of the end of what is not born.
    pid = os.fork()
    if pid:
        tell({"pid": pid})
        return
    live(order)


def live(order: Mapping[str, Any]) -> NoReturn:
    """Be the process that was ordered."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        os.dup2(os.open(order["stderr"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os.environ.clear()
        os.environ.update(order["environment"])
        from orderflow.cli import main

        code = main(order["arguments"], standalone_mode=False) or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  # whatever it is, this is no second nursery
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def load() -> None:
    """What every service imports."""
    for module in (
        "orderflow.cli.up",
        "orderflow.local.preparation",
        "orderflow.local.services",
        "orderflow.core.kafka",
        "orderflow.core.postgres_log",
        "orderflow.runtime.process",
        *(f"orderflow.services.{service}.service" for service in SERVICES),
    ):
        import_module(module)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        plant(CHANGES[name])
    load()
    serve()
