"""What a process exposes at `/metrics`, read (Prometheus text format 0.0.4), and what two readings say."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

_LINE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

Labels = Mapping[str, str]


class Exposition:
    """Samples by the name of their metric. `_bucket` samples are left out: nobody here reads them."""

    def __init__(self, text: str = "") -> None:
        self._samples: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for line in text.splitlines():
            if line.startswith("orderflow_") and (match := _LINE.fullmatch(line)) and "_bucket" not in match["name"]:
                self._samples[match["name"]].append((_labels(match["labels"] or ""), float(match["value"])))

    def of(self, name: str) -> Iterator[tuple[Labels, float]]:
        """Every sample of the metric `orderflow_<name>`."""
        yield from self._samples.get(f"orderflow_{name}", ())

    def total(self, name: str, **wanted: str) -> float:
        """The sum of the samples that have these labels."""
        return sum(
            value
            for labels, value in self.of(name)
            if all(labels.get(label) == text for label, text in wanted.items())
        )


def _labels(text: str) -> Labels:
    return {
        name: re.sub(r'\\[\\"n]', lambda match: _ESCAPED[match[0]], value) for name, value in _LABEL.findall(text)
    }
