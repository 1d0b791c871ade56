"""How is the OpenAPI document cut down to what one operation needs?

A generator that resolves references ahead takes gigabytes for the whole document, whose
filters, queries and expressions contain each other. A document of one operation with only
the components that it references, unrolled to a bounded depth, takes a hundred megabytes.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_DOCUMENT_PATH = Path(__file__).parent / "openapi-1.19.json"
_PREFIX = "#/components/schemas/"

# How often a component may stand inside itself. Once is enough to reach every parser.
RECURSION_MAX = 1

COLLECTIONS = ["generated-named", "generated-plain"]
VECTOR_SIZE = 4
VECTOR_NAMES = ["dense", "multi", "sparse"]
PAYLOAD_PATHS = ["color", "n", "price", "at", "place", "text", "nested[].x", "nested", "gone"]

# What a value is called, and what it may be, so that requests reach stored points.
_FITTED_NAMES: dict[str, Any] = {
    "collection_name": {"type": "string", "enum": COLLECTIONS},
    "collection": {"type": "string", "enum": COLLECTIONS},
    "key": {"type": "string", "enum": PAYLOAD_PATHS},
    "field_name": {"type": "string", "enum": PAYLOAD_PATHS},
    "group_by": {"type": "string", "enum": PAYLOAD_PATHS},
    "using": {"type": "string", "enum": VECTOR_NAMES},
    "vector_name": {"type": "string", "enum": VECTOR_NAMES},
    "shard_id": {"type": "integer", "enum": [0]},
    "timeout": {"type": "integer", "minimum": 1, "maximum": 60},
    "model": {"type": "string", "enum": ["qdrant/bm25"]},
}
# The same for operations that make what the others find.
_FITTED_NAMES_OF: dict[tuple[str, str], dict[str, Any]] = {
    ("PUT", "/collections/{collection_name}/vectors/{vector_name}"): {
        "vector_name": {"type": "string", "enum": ["new", "newer"]},
    },
}
_DENSE = {
    "type": "array",
    "items": {"type": "number", "minimum": -100, "maximum": 100},
    "minItems": VECTOR_SIZE,
    "maxItems": VECTOR_SIZE,
}
_SPARSE = {
    "type": "object",
    "properties": {
        "indices": {"type": "array", "items": {"type": "integer"}, "enum": [[1, 50]]},
        "values": {**_DENSE, "minItems": 2, "maxItems": 2},
    },
    "required": ["indices", "values"],
}
_NAMED = {
    "type": "object",
    "properties": {
        "dense": _DENSE,
        "multi": {"type": "array", "items": _DENSE, "minItems": 1},
        "sparse": _SPARSE,
    },
    "required": ["dense"],
    "additionalProperties": False,
}
_FITTED_COMPONENTS: dict[str, Any] = {
    "VectorStruct": _NAMED,
    "SparseVector": _SPARSE,
    "ExtendedPointId": {"type": "integer", "minimum": 0, "maximum": 9},
}
# One node has no shard keys, so what names one is refused before the rest is looked at.
_UNFITTED_NAMES = {"shard_key"}
# Models of others are not there.
_UNFITTED_COMPONENTS = {"Image", "InferenceObject"}


@cache
def _whole() -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(_DOCUMENT_PATH.read_text("utf-8"))
    return whole


def operation_document(method: str, path: str, *, is_fitted: bool) -> dict[str, Any]:
    """A document of one operation, whose components nest at most `RECURSION_MAX` deeper.

    Args:
        is_fitted: narrow names, ids and vectors to those that `fill` stores, so that
            generated requests find something.
    """
    whole = _whole()
    names = _FITTED_NAMES | _FITTED_NAMES_OF.get((method, path), {})
    cut = _Cut(whole["components"]["schemas"], names if is_fitted else None)
    operation = whole["paths"][path][method.lower()]
    described = {"responses"}
    request = {name: value for name, value in operation.items() if name not in described}
    # Responses are checked against the whole document, so here any will do.
    request = cut.bounded(request, _NOWHERE) | {"responses": {"default": {"description": "any"}}}
    return {
        "openapi": whole["openapi"],
        "info": whole["info"],
        "paths": {path: {method.lower(): request}},
        "components": {"schemas": cut.components},
    }


class _Place:
    """Where in the components a node stands.

    Attributes:
        depth: how often a component has recurred on the way.
        names: the components on the way since it last did.
    """

    def __init__(self, depth: int = 0, names: frozenset[str] = frozenset()) -> None:
        self.depth = depth
        self.names = names


_NOWHERE = _Place()


class _Cut:
    def __init__(self, schemas: dict[str, Any], fitted_names: dict[str, Any] | None) -> None:
        self._schemas = schemas
        self._is_fitted = fitted_names is not None
        self._names = fitted_names or {}
        self.components: dict[str, Any] = {}
        self._unreachable: set[str] = set()

    def bounded(self, node: Any, place: _Place) -> Any:
        """The node with bounded references; None if nothing satisfies it within the bound."""
        if isinstance(node, list):
            return [self.bounded(one, place) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return self._reference(node["$ref"].removeprefix(_PREFIX), place)
        if self._is_fitted and _is_vector(node):
            return _DENSE
        if node == {"nullable": True}:
            # The document means null; read to the letter it would be anything.
            return {**node, "enum": [None]}
        return self._object(node, place)

    def _reference(self, name: str, place: _Place) -> Any:
        if self._is_fitted and name in _FITTED_COMPONENTS:
            return _FITTED_COMPONENTS[name]
        if self._is_fitted and name in _UNFITTED_COMPONENTS:
            return None
        if name in place.names:
            place = _Place(place.depth + 1)
        if place.depth > RECURSION_MAX:
            return None
        unrolled = name if place.depth == 0 else f"{name}_{place.depth}"
        if unrolled in self._unreachable:
            return None
        if unrolled not in self.components:
            self.components[unrolled] = {}
            inside = _Place(place.depth, place.names | {name})
            schema = self.bounded(self._schemas[name], inside)
            if schema is None:
                del self.components[unrolled]
                self._unreachable.add(unrolled)
                return None
            self.components[unrolled] = schema
        return {"$ref": f"{_PREFIX}{unrolled}"}

    def _object(self, node: dict[str, Any], place: _Place) -> Any:
        bounded: dict[str, Any] = {}
        for keyword, value in node.items():
            if keyword in ("anyOf", "oneOf"):
                alternatives = [one for one in self.bounded(value, place) if one is not None]
                if not alternatives:
                    return None
                bounded[keyword] = alternatives
            elif keyword == "allOf":
                bounded[keyword] = self.bounded(value, place)
                if None in bounded[keyword]:
                    return None
            elif keyword == "properties":
                required = {*node.get("required", [])}
                bounded[keyword] = self._properties(value, required, place)
                if not required <= {*bounded[keyword]}:
                    return None
            elif keyword in ("example", "examples", "default", "enum", "required"):
                bounded[keyword] = value
            else:
                bounded[keyword] = self.bounded(value, place)
                if bounded[keyword] is None and value is not None:
                    return None
        if self._is_fitted and bounded.get("in") in ("path", "query"):
            self._fit_parameter_into(bounded)
        return bounded

    def _properties(
        self, properties: dict[str, Any], required: set[str], place: _Place
    ) -> dict[str, Any]:
        bounded: dict[str, Any] = {}
        for name, value in properties.items():
            if self._is_fitted and name in _UNFITTED_NAMES - required:
                continue
            if name in self._names:
                bounded[name] = self._names[name]
                continue
            if self._is_fitted and name == "vector" and value.get("items") == {"type": "string"}:
                bounded[name] = {**value, "items": self._names["vector_name"], "minItems": 1}
                continue
            schema = self.bounded(value, place)
            if schema is not None:
                bounded[name] = schema
        return bounded

    def _fit_parameter_into(self, parameter: dict[str, Any]) -> None:
        if parameter["name"] in self._names:
            parameter["schema"] = self._names[parameter["name"]]
        elif parameter["name"] == "id":
            parameter["schema"] = _FITTED_COMPONENTS["ExtendedPointId"]


def _is_vector(node: dict[str, Any]) -> bool:
    items = node.get("items")
    return node.get("type") == "array" and items == {"type": "number", "format": "float"}
