"""All planted bugs, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tests.zoo import in_access, in_core, in_other_layers, in_services, in_sql
from tests.zoo.bug import Bug

ZOO: Mapping[str, Bug] = MappingProxyType(
    {
        bug.name: bug
        for bug in (*in_services.BUGS, *in_core.BUGS, *in_other_layers.BUGS, *in_sql.BUGS, *in_access.BUGS)
    }
)
