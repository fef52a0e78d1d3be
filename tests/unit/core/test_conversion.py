"""Threads of one process may all be the first to read a type."""

from __future__ import annotations

import subprocess
import sys

THREADS_MEET = """
import sys, threading
import msgspec
from orderflow.core.conversion import converted

sys.setswitchinterval(1e-6)
for number in range(300):
    inner = msgspec.defstruct(f"Inner{number}", [(f"f{each}", int, 0) for each in range(20)])
    outer = msgspec.defstruct(f"Outer{number}", [(f"g{each}", list[inner], []) for each in range(5)])
    start, found = threading.Barrier(4), []

    def read():
        start.wait()
        found.append(converted({"g0": [{"f3": 4}]}, outer).g0[0].f3)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [4, 4, 4, 4]
"""


def test_threads_that_are_the_first_to_read_a_type_do_not_end_the_process() -> None:
    process = subprocess.run([sys.executable, "-c", THREADS_MEET], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
