"""The command `orderflow`, also as `python -m orderflow`."""

import sys

INTERRUPTED = 130


def run() -> None:
    """Ctrl-C while Python still reads the code of the command ends it without a trace, as it does later."""
    try:
        from orderflow.cli import main

        main(prog_name="orderflow")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    run()
