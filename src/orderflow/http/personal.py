"""Answers without what they tell of customers: fields that are marked as personal are empty."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, get_type_hints

import msgspec

from orderflow.core.access import PERSONAL


def without_personal_data(value: Any) -> Any:
    """The same with every personal field empty, however deep it lies: a text "", a list (), a structure its default,
    else null.
    """
    if isinstance(value, msgspec.Struct):
        personal = _personal_fields(type(value))
        told = {name: getattr(value, name) for name in value.__struct_fields__}
        changes = {
            name: _emptied(each) if name in personal else without_personal_data(each) for name, each in told.items()
        }
        return msgspec.structs.replace(value, **changes)
    if isinstance(value, list | tuple):
        return type(value)(without_personal_data(each) for each in value)
    if isinstance(value, Mapping):
        return {key: without_personal_data(each) for key, each in value.items()}
    return value


def _emptied(value: Any) -> Any:
    if isinstance(value, str):
        return ""
    if isinstance(value, list | tuple):
        return ()
    if isinstance(value, msgspec.Struct) and all(each.default is None for each in msgspec.structs.fields(value)):
        return type(value)()
    return None


@cache
def _personal_fields(kind: type[msgspec.Struct]) -> frozenset[str]:
    hints = get_type_hints(kind, include_extras=True)
    return frozenset(name for name, hint in hints.items() if PERSONAL in getattr(hint, "__metadata__", ()))
