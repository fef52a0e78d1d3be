"""The counting service as a process of its own: `python -m tests.support.sample [--control-pipe]`."""

from __future__ import annotations

import os
import sys

from orderflow.runtime.process import run_process
from orderflow.settings import Settings
from tests.support.sample.service import SERVICE

if __name__ == "__main__":
    sys.exit(run_process(SERVICE, Settings.load(environ=os.environ), control_pipe="--control-pipe" in sys.argv))
