"""The URL of one database on a server."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit


def database_of(server_url: str, database: str) -> str:
    """`server_url` with its user and database replaced by `database`; password, hosts and options stay."""
    parts = urlsplit(server_url)
    user_info, _, hosts = parts.netloc.rpartition("@")
    _, colon, password = user_info.partition(":")
    netloc = f"{quote(database)}{colon}{password}@{hosts}"
    return urlunsplit((parts.scheme, netloc, f"/{quote(database)}", parts.query, ""))
