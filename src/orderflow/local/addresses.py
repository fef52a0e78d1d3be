"""The URL of a database, from where its server stands."""

from __future__ import annotations

from urllib.parse import quote, urlencode

SOCKET_PORT = 5432


def database_url(where: str, database: str, user: str, password: str) -> str:
    """`where` is HOST:PORT or the folder of a Unix socket."""
    credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
    if not where.startswith("/"):
        return f"postgresql://{credentials}@{where}/{quote(database)}"
    socket = urlencode({"host": where, "port": SOCKET_PORT})
    return f"postgresql://{credentials}@/{quote(database)}?{socket}"
