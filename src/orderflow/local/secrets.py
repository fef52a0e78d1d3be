"""Passwords of the databases: made by chance, kept in the home, readable by its owner alone."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from orderflow.local.errors import LocalError


class SecretsFile:
    """A JSON object of names and passwords, mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def require(self) -> None:
        """Raises LocalError when the file is gone though there is data that needs it."""
        if not self._path.is_file():
            raise LocalError(
                f"{self._path} with the passwords of the databases is missing, though their data is there; "
                "put it back, or delete the data with: orderflow reset"
            )

    def password(self, name: str) -> str:
        """The password called `name`; made and stored at first use. Raises LocalError."""
        known = self._load()
        if name not in known:
            known[name] = secrets.token_urlsafe(24)
            self._store(known)
        return known[name]

    def _load(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise LocalError(f"the passwords in {self._path} cannot be read: {error}") from error
        if not isinstance(found, dict):
            raise LocalError(f"{self._path} does not hold passwords; it was changed by hand or is damaged")
        return {str(name): str(value) for name, value in found.items()}

    def _store(self, known: dict[str, str]) -> None:
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(known, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            raise LocalError(f"cannot write {self._path}: {error.strerror or error}") from error
