"""Stands in for a service where only its supervision is tested: ready, serving nothing, ended by its pipe.

A file `NAME.crash` in the home makes it fail before it is ready, for as long as the file is there. With
FAKE_SERVICE_NEVER_DRAINS in its environment it goes on when its pipe has ended.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path


def main(name: str) -> int:
    if (Path(os.environ["ORDERFLOW_HOME"]) / f"{name}.crash").exists():
        sys.stderr.write("Error: it was told to fail\n")
        return 1
    port = int(os.environ[f"ORDERFLOW_{name.upper()}_PORT"]) or 40000
    ops_port = int(os.environ[f"ORDERFLOW_{name.upper()}_OPS_PORT"]) or 40100
    sys.stdout.write("something else on standard output\n")
    ready = {"ready": True, "service": name, "port": port, "ops_port": ops_port, "pid": os.getpid()}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    if "FAKE_SERVICE_NEVER_DRAINS" in os.environ:
        threading.Event().wait()
    Path(os.environ["ORDERFLOW_LOG_FILE"]).write_text("drained\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
