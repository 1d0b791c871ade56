"""How do vectors cross the wire, in the forms that clients of all ages send?

`Vector` has a form for each kind of vector, and older clients send flat `data` with
`indices` beside it (sparse) or `vectors_count` (multi-vector). Both are read; answers take
the newer form, which `qdrant-client` reads since 1.16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from qdrant_client import grpc as qdrant

from headrace.model.errors import InvalidVector, MalformedInput
from headrace.model.vectors import (
    DEFAULT_VECTOR_NAME,
    FloatMatrix,
    FloatVector,
    SparseVector,
    Vector,
)
from headrace.server.errors import not_supported
from headrace.server.grpc.payload import read_object
from headrace.server.grpc.rules import broken_rule
from headrace.service.inference import Text, embed_text


def read_named_vectors(message: qdrant.Vectors) -> Mapping[str, Vector | Text]:
    """The vectors of a point by name, or texts in their place; the default's name is "".

    Raises:
        MalformedInput: there is none, or a sparse vector has no name.
        InvalidVector: a multi-vector is empty or ragged.
        InvalidBody: a sparse vector contradicts itself.
        BadRequest: it is an image, or an object of a model's own.
    """
    match message.WhichOneof("vectors_options"):
        case "vector":
            vector = _read_stored(message.vector)
            if isinstance(vector, SparseVector):
                raise MalformedInput("Sparse vector must be named")
            return {DEFAULT_VECTOR_NAME: vector}
        case "vectors":
            return {name: _read_stored(one) for name, one in message.vectors.vectors.items()}
        case _:
            raise MalformedInput("No Vector Provided")


def read_vector(message: qdrant.Vector) -> Vector:
    """One vector, in the newer or the older form; that of a text is to be searched for.

    Raises: as `read_named_vectors`, and as `read_document`.
    """
    match message.WhichOneof("vector"):
        case "dense":
            return read_dense(message.dense.data)
        case "sparse":
            return read_sparse(message.sparse.indices, message.sparse.values)
        case "multi_dense":
            return read_multi_dense(message.multi_dense)
        case None:
            return _read_flat_vector(message)
        case "document":
            return read_document(message.document)
        case kind:
            raise not_supported(f"inference (`{kind}`)")


def read_document(message: qdrant.Document) -> Vector:
    """The vector that a model makes of a text that is searched for.

    Raises:
        MalformedInput: the model is not available, or does not take the options.
    """
    return embed_text(message.text, message.model, read_object(message.options), as_query=True)


def read_dense(components: Iterable[float]) -> FloatVector:
    """A dense vector: shape (dim,), float32, a copy."""
    return np.array(components, dtype=np.float32)


def read_sparse(indices: Iterable[int], values: Iterable[float]) -> SparseVector:
    """A sparse vector, in the order it was sent in.

    Raises:
        InvalidBody: indices and values differ in number, or an index comes twice.
    """
    vector = SparseVector(np.array(indices, dtype=np.uint32), read_dense(values))
    if len(vector.indices) != len(vector.values):
        raise broken_rule("values", "Validation error: must be the same length as indices [{}]")
    if len(np.unique(vector.indices)) != len(vector.indices):
        raise broken_rule("indices", "Validation error: must be unique [{}]")
    return vector


def read_multi_dense(message: qdrant.MultiDenseVector) -> FloatMatrix:
    """A multi-vector: shape (n, dim), float32.

    Raises:
        InvalidVector: it is empty, or its vectors differ in length.
    """
    if not message.vectors:
        raise InvalidVector("Multi-vector must not be empty")
    dims = {len(vector.data) for vector in message.vectors}
    if len(dims) > 1:
        raise InvalidVector(f"Vectors of a multi-vector differ in length: {sorted(dims)}")
    return np.stack([read_dense(vector.data) for vector in message.vectors])


def write_vectors_into(vectors: dict[str, Vector], output: qdrant.VectorsOutput) -> None:
    """Put a point's vectors into an answer: a lone default vector alone, else by name."""
    if vectors.keys() == {DEFAULT_VECTOR_NAME}:
        _write_vector_into(vectors[DEFAULT_VECTOR_NAME], output.vector)
        return
    output.vectors.SetInParent()
    for name, vector in vectors.items():
        _write_vector_into(vector, output.vectors.vectors[name])


def _read_stored(message: qdrant.Vector) -> Vector | Text:
    """A vector, or the text in its place."""
    if message.WhichOneof("vector") != "document":
        return read_vector(message)
    document = message.document
    return Text(document.text, document.model, read_object(document.options))


def _read_flat_vector(message: qdrant.Vector) -> Vector:
    is_sparse, is_multi = message.HasField("indices"), message.HasField("vectors_count")
    if is_sparse and is_multi:
        raise MalformedInput("`indices` and `vectors_count` cannot be both specified")
    if is_sparse:
        return read_sparse(message.indices.data, message.data)
    components = read_dense(message.data)
    if not is_multi:
        return components
    count = message.vectors_count
    if count == 0 or len(components) == 0 or len(components) % count:
        raise InvalidVector(
            f"Unable to convert to multi-dense vector: {len(components)} floats do not make "
            f"{count} vectors"
        )
    return components.reshape(count, -1)


def _write_vector_into(vector: Vector, output: qdrant.VectorOutput) -> None:
    if isinstance(vector, SparseVector):
        output.sparse.indices.extend(vector.indices.tolist())
        output.sparse.values.extend(vector.values.tolist())
    elif vector.ndim == 1:
        _write_dense_into(vector, output.dense)
    else:
        output.multi_dense.SetInParent()
        for row in vector:
            _write_dense_into(row, output.multi_dense.vectors.add())


def _write_dense_into(vector: FloatVector, output: qdrant.DenseVector) -> None:
    """Put the floats into a message as it is encoded: ten times as fast as one by one.

    A `DenseVector` is one packed field: tag 1 of wire type 2, the length of the floats in
    bytes as a varint, and the floats, little-endian.
    """
    floats = vector.astype("<f4", copy=False).tobytes()
    output.MergeFromString(b"\x0a" + _varint(len(floats)) + floats)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
