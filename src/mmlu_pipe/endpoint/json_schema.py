"""JSON schemas in the form that strict structured outputs take (pure).

Source: Azure OpenAI, "Structured outputs", supported schemas: every object is closed and all its keys are required.
"""

from __future__ import annotations

from typing import Any

from mmlu_pipe.records import JsonObject

__all__ = ["strict_schema"]


def strict_schema(schema: Any) -> Any:
    """A schema as strict structured outputs want it: objects closed, all their keys required, no defaults.

    Whatever fits it fits the schema as given, too.
    """
    if not isinstance(schema, dict):
        return schema
    new: JsonObject = {name: value for name, value in schema.items() if name != "default"}
    for name in new.keys() & {"properties", "$defs", "definitions"}:
        new[name] = {key: strict_schema(part) for key, part in new[name].items()}
    for name in new.keys() & {"anyOf", "allOf"}:
        new[name] = [strict_schema(part) for part in new[name]]
    if "items" in new:
        new["items"] = strict_schema(new["items"])
    if "properties" in new:
        new = {"additionalProperties": False} | new | {"required": list(new["properties"])}
    return new
