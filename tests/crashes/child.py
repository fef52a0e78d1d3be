"""`orderflow` with changes planted in what it reads: `python -m tests.crashes.child NAME[,NAME] ARGUMENT…`.

A name is a bug of the zoo, or of `HASTE`.
"""

from __future__ import annotations

import sys

from tests.zoo.bug import Bug, plant
from tests.zoo.inmates import ZOO

MODULE = "tests.crashes.child"
UPKEEP = "hasty-upkeep"
HASTE = {
    UPKEEP: Bug(
        UPKEEP, 1, "No bug: upkeep is due every second.", "messaging/engine.py", "_EVERY_S = 60.0", "_EVERY_S = 1.0"
    )
}

if __name__ == "__main__":
    for name in sys.argv.pop(1).split(","):
        plant({**ZOO, **HASTE}[name])
    from orderflow.cli import main

    sys.exit(main())
