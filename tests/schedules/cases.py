"""All cases, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tests.schedules import on_the_log, on_the_store
from tests.schedules.explore import Case

CASES: Mapping[str, type[Case]] = MappingProxyType(
    {case.name: case for case in (*on_the_log.CASES, *on_the_store.CASES)}
)
