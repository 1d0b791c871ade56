"""How are vectors read from decoded JSON?

This is the exact way, element by element, with a text for whatever is wrong. Upserts
take the fast way of `simd_points` first, and come here when that finds anything odd.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.model.vectors import DEFAULT_VECTOR_NAME, FloatVector, SparseVector, Vector
from headrace.server.errors import not_supported
from headrace.server.rest.body import U32_MAX, Node
from headrace.service.inference import Text

# What would have to be embedded, and is not text.
_UNSUPPORTED_INFERENCE_MEMBERS = ("image", "object")


def read_point_vectors(node: Node) -> Mapping[str, Vector | Text]:
    """The vectors of a point, or texts in their place: one without a name, or a map by name.

    Raises:
        FormatError: it is neither.
        BadRequest: as `read_text`.
    """
    if isinstance(node.value, list):
        return {DEFAULT_VECTOR_NAME: read_list_vector(node)}
    node.members()
    text = read_text(node)
    if text is not None:
        return {DEFAULT_VECTOR_NAME: text}
    return {name: read_vector(vector) for name, vector in node.entries()}


def read_vector(node: Node) -> Vector | Text:
    """One vector: dense, multi or sparse; or a text in its place.

    Raises:
        FormatError: it is none.
        BadRequest: as `read_text`.
    """
    if isinstance(node.value, list):
        return read_list_vector(node)
    node.members()
    text = read_text(node)
    return read_sparse_vector(node) if text is None else text


def read_list_vector(node: Node) -> Vector:
    """A dense vector, or a multi-vector if its first element is a list.

    Raises:
        FormatError: it is neither.
    """
    values = node.value
    if values and isinstance(values[0], list):
        return _read_multi_vector(node)
    if not values:
        node.broken("dense vector must not be empty")
    return read_floats(node)


def read_sparse_vector(node: Node) -> SparseVector:
    """An object of `indices` and `values`.

    Raises:
        FormatError: it is none.
    """
    indices, values = node.require("indices"), node.require("values")
    vector = SparseVector(_read_indices(indices), read_floats(values))
    if len(vector.indices) != len(vector.values):
        values.broken("Validation error: must be the same length as indices [{}]")
    if len(np.unique(vector.indices)) != len(vector.indices):
        indices.broken("Validation error: must be unique [{}]")
    return vector


def read_floats(node: Node) -> FloatVector:
    """A list of numbers as float32; what float32 cannot hold becomes infinite.

    Raises:
        FormatError: an element is not a number.
    """
    return _as_array(_checked(node, (int, float), "f32"), np.float32)


def read_text(node: Node) -> Text | None:
    """The text of an object that is to be embedded by a model; None if it is no such object.

    Raises:
        FormatError: it is one, and a member has the wrong type.
        BadRequest: it is an image, or an object of a model's own.
    """
    for member in _UNSUPPORTED_INFERENCE_MEMBERS:
        if node.get("model") is not None and node.get(member) is not None:
            raise not_supported(f"inference (`{member}` in `{node.path}`)")
    if not isinstance(node.value.get("text"), str):
        return None
    options = node.get("options")
    return Text(
        node.require("text").text(),
        node.require("model").text(),
        {} if options is None else options.members(),
    )


def _read_multi_vector(node: Node) -> Vector:
    rows = [read_floats(row) for row in node.elements()]
    dim = len(rows[0])
    for row in rows:
        if not len(row):
            node.broken("all vectors must be non-empty")
            return rows[0]
        if len(row) != dim:
            node.broken(
                f"all vectors must have the same dimension, found vector with dimension {len(row)}"
            )
            return rows[0]
    return np.stack(rows)


def _read_indices(node: Node) -> NDArray[np.uint32]:
    values = _checked(node, (int,), "u32")
    for position, value in enumerate(values):
        if not 0 <= value <= U32_MAX:
            node.elements()[position].unsigned(U32_MAX)
    return _as_array(values, np.uint32)


def _checked(node: Node, kinds: tuple[type, ...], expected: str) -> list[Any]:
    """The elements of a list, all of which must be of some types."""
    values: Any = node.value
    if not isinstance(values, list):
        node.elements()
    if not set(map(type, values)) <= set(kinds):
        for element in node.elements():
            if type(element.value) not in kinds:
                raise element.wrong_type(f"{expected}")
    checked: list[Any] = values
    return checked


def _as_array(values: list[Any], dtype: type[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        return np.array(values, dtype=dtype)
