"""compose.yaml as Compose would have it, and its commands on this machine: what can be tried without a container."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
FILE = ROOT / "compose.yaml"
_VARIABLE = re.compile(r"\$\{(\w+)(?::[-?]([^}]*))?\}")


@dataclass(frozen=True)
class Composed:
    """`services` with all that is merged and set in them."""

    services: Mapping[str, Any]
    whole: Mapping[str, Any]
    credentials: Path

    def environment(self, service: str) -> dict[str, str]:
        return {name: str(value) for name, value in self.services[service].get("environment", {}).items()}

    def secrets(self, service: str) -> dict[str, Path]:
        """By what they are called below /run/secrets, where they are here."""
        found = {}
        for each in self.services[service].get("secrets", []):
            source = each if isinstance(each, str) else each["source"]
            target = each if isinstance(each, str) else each["target"]
            found[target] = Path(self.whole["secrets"][source]["file"])
        return found

    def here(self, service: str, text: str) -> str:
        """A text of the service's container, with the paths of this machine."""
        for target, path in sorted(self.secrets(service).items(), key=lambda item: -len(item[0])):
            text = re.sub(rf"/run/secrets/{re.escape(target)}(?![\w.])", str(path), text)
        return text.replace("/run/tokens", str(self.credentials / "tokens"))


def prometheus_here(compose: Composed, folder: Path) -> Path:
    """The configuration of the container, in `folder`, with the paths of this machine."""
    text = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8")
    written = folder / "prometheus.yml"
    written.write_text(compose.here("prometheus", text), encoding="utf-8")
    shutil.copy(ROOT / "deploy" / "prometheus" / "rules.yml", folder)
    return written


def composed(credentials: Path, more: Mapping[str, str] = MappingProxyType({})) -> Composed:
    """As `docker compose --env-file credentials/compose.env` would read it, with `more` in that file."""
    lines = (credentials / "compose.env").read_text().splitlines()
    variables = {**dict(line.split("=", 1) for line in lines), **more}

    def value(match: re.Match[str]) -> str:
        return variables.get(match[1], match[2] or "")

    def filled(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {str(key): filled(each) for key, each in node.items()}
        if isinstance(node, list):
            return [filled(each) for each in node]
        return _VARIABLE.sub(value, node).replace("$$", "$") if isinstance(node, str) else node

    whole = filled(YAML(typ="safe").load(FILE.read_text("utf-8")))
    return Composed(whole["services"], whole, credentials)
