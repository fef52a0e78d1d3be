"""Everything that this machine can run: the checks, then all layers of tests, quick ones first.

    ./run_tests.sh                  everything
    ./run_tests.sh tests/unit -x    these tests only, with options of pytest, without the checks
    ./run_tests.sh --lowest         some of each kind, on the lowest versions that pyproject.toml allows, all at once
    ./run_tests.sh --lowest -x tests/unit    these, likewise
    ./run_tests.sh --busy 4 tests/unit -x    any of these, while 4 processes keep the machine busy

Most tests of services wait, so the layers run side by side, each in a process with servers of its own; they are shown
one after the other, each ending with pytest's closing lines. Ends with 0 when all is well, else with 1, having named
what failed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import pytest

from scripts import check
from scripts.check import PROJECT, say

IN_TURN = (
    ("tests/unit", "tests/simulation", "tests/zoo", "tests/mutation"),
    ("tests/conformance", "tests/schedules"),
)
LONG = ("tests/e2e/test_chaos.py", "tests/e2e/test_crashes.py")
BESIDE = (("tests/integration",), ("tests/browser",), ("tests/e2e", *(f"--ignore={each}" for each in LONG)), LONG)
LOWEST = (
    "tests/unit",
    "tests/integration/test_cli.py",
    "tests/integration/test_http_edges.py",
    "tests/integration/test_order_service.py",
)
ON_LOWEST = (sys.executable, "bootstrap.py", "--lowest", "-m", "pytest")
OPTIONS = ("--no-header", "--durations=10", "--durations-min=2")
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
LOOK_EVERY_S = 0.2
STOP_TIMEOUT_S = 60.0


class Layer:
    """Layers of tests in one process of pytest, which ends with the block."""

    def __init__(self, name: str, command: Sequence[str], output: Path) -> None:
        self.name = name
        self._output = output
        with output.open("wb") as said:
            self._process = subprocess.Popen(  # noqa: S603  (ours)
                command, cwd=PROJECT, stdout=said, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> Layer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is not None:
            return
        if kind is not KeyboardInterrupt:  # of which the terminal has told it
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def passes(self) -> bool:
        """Show what it has said and goes on to say, until it ends."""
        with self._output.open("r", encoding="utf-8", errors="replace") as output:
            while True:
                status = self._process.poll()
                sys.stdout.write(output.read())
                sys.stdout.flush()
                if status is not None:
                    return status == 0
                time.sleep(LOOK_EVERY_S)


@contextmanager
def busy(count: str) -> Iterator[None]:
    """So many processes that do nothing but take time of the processors; they end with the block, or with us."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(int(count))]  # noqa: S603  (ours)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main(arguments: Sequence[str]) -> int:
    # Whoever starts this in the background of a script has Ctrl-C ignored, which the tests' processes would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if arguments[:1] == ["--busy"]:
        if len(arguments) == 1 or not arguments[1].isdecimal():
            say("--busy wants a number of processes, such as: --busy 4")
            return 2
        with busy(arguments[1]):
            return main(arguments[2:])
    if arguments[:1] == ["--lowest"]:
        command = [*ON_LOWEST, *(arguments[1:] or LOWEST)]
        return subprocess.run(command, cwd=PROJECT, check=False).returncode  # noqa: S603  (ours)
    if arguments:
        return int(pytest.main(list(arguments)))
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    tell_of_kafka()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:

        def begin(folders: Sequence[str], python: Sequence[str] = (sys.executable, "-m", "pytest")) -> Layer:
            named = " ".join(each for each in folders if not each.startswith("-"))
            name = named if python != ON_LOWEST else "tests on the lowest versions"
            output = Path(folder) / name.replace("/", "-").replace(" ", "-")
            return stack.enter_context(Layer(name, [*python, *folders, *OPTIONS], output))

        beside = [begin(folders) for folders in BESIDE]
        failed = [] if check.main(()) == 0 else ["checks"]
        failed += [layer.name for layer in map(begin, IN_TURN) if not layer.passes()]
        beside.append(begin(LOWEST, ON_LOWEST))
        failed += [layer.name for layer in beside if not layer.passes()]
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def tell_of_kafka() -> None:
    """In one line, whether the tests of Kafka run."""
    from orderflow.local.kafka import missing_for_kafka

    missing = missing_for_kafka()
    if missing is None:
        say("kafka: its tests run on a real broker of this machine")
    else:
        say(f"kafka: its tests are skipped: {missing}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
