"""A small disk of our own: full, and free again. Seen in a process of its own, whose mounts nobody else sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILL = """
import errno, sys
from pathlib import Path
from orderflow.chaos.system import SmallDisk

place = Path(sys.argv[1])
disk = SmallDisk(place, 64)
(place / "kept").write_bytes(bytes(8_000_000))
disk.fill()
try:
    (place / "more").write_bytes(bytes(16_000_000))
except OSError as error:
    print(errno.errorcode[error.errno])
(place / "more").unlink()
disk.free()
(place / "more").write_bytes(bytes(16_000_000))
print((place / "kept").stat().st_size, (place / "more").stat().st_size)
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="a tmpfs of our own needs Linux and root")
def test_it_is_full_when_it_is_to_be_and_nobody_else_sees_it(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True)

    assert done.stdout.splitlines() == ["ENOSPC", "8000000 16000000"], done.stderr
    assert list(tmp_path.iterdir()) == []
