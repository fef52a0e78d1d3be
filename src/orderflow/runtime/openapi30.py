"""OpenAPI 3.1 said in the words of 3.0, for the docs page: the bundled Swagger UI reads nothing newer."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
_NULL = {"type": "null"}


def to_openapi_30(document: Json) -> Json:
    """The same document for a reader of OpenAPI 3.0.3. Only what our schemas use is translated."""
    translated: Json = _translate(document)
    translated["openapi"] = "3.0.3"
    translated["info"]["license"].pop("identifier", None)
    return translated


def _translate(value: Any) -> Any:
    if isinstance(value, list):
        return [_translate(item) for item in value]
    if not isinstance(value, dict):
        return value
    schema = {name: _translate(item) for name, item in value.items()}
    if isinstance(schema.get("anyOf"), list) and _NULL in schema["anyOf"]:
        schema |= _nullable(schema.pop("anyOf"))
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if isinstance(schema.get("examples"), list):
        schema["example"] = schema.pop("examples")[0]
    if schema.get("required") == []:
        del schema["required"]
    for bound, flag in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(flag), int | float) and not isinstance(schema[flag], bool):
            schema[bound] = schema[flag]
            schema[flag] = True
    if isinstance(schema.get("prefixItems"), list):
        schema["items"] = {"anyOf": schema.pop("prefixItems")}
    return schema


def _nullable(choices: list[Json]) -> Json:
    others = [choice for choice in choices if choice != _NULL]
    if len(others) == 1 and "$ref" not in others[0]:
        return {**others[0], "nullable": True}
    return {"anyOf": others, "nullable": True}
