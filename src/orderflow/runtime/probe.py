"""`python -m orderflow.runtime.probe URL [CA]` ends with 0 if the URL answers with 2xx: for a health check."""

from __future__ import annotations

import ssl
import sys
from urllib.request import urlopen

TIMEOUT_S = 2.0


def main(url: str, ca: str | None = None) -> int:
    context = ssl.create_default_context(cafile=ca) if ca else None
    try:
        with urlopen(url, timeout=TIMEOUT_S, context=context):  # noqa: S310  # the URL is the container's own
            return 0
    except OSError as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
