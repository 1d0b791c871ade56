"""Vectors in all the forms that clients of all ages send, and as they leave."""

from __future__ import annotations

import numpy as np
import pytest
from qdrant_client import grpc as qdrant

from headrace.model.errors import BadRequest, HeadraceError, InvalidVector, MalformedInput
from headrace.model.vectors import FloatVector, SparseVector, Vector
from headrace.server.grpc.vectors import (
    read_named_vectors,
    read_vector,
    write_vectors_into,
)
from headrace.service.inference import Text


def assert_equal(read: Vector, expected: Vector) -> None:
    if isinstance(expected, SparseVector):
        assert isinstance(read, SparseVector)
        assert read.indices.dtype == np.uint32
        assert read.indices.tolist() == expected.indices.tolist()
        assert read.values.dtype == np.float32
        assert read.values.tolist() == expected.values.tolist()
    else:
        assert not isinstance(read, SparseVector)
        assert read.dtype == np.float32
        assert read.shape == expected.shape
        assert read.tolist() == expected.tolist()


DENSE = np.array([1, 2, 3, 4], dtype=np.float32)
MULTI = np.array([[1, 2], [3, 4]], dtype=np.float32)
SPARSE = SparseVector(np.array([7, 2**32 - 1], np.uint32), np.array([1, 2], np.float32))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (qdrant.Vector(dense=qdrant.DenseVector(data=[1, 2, 3, 4])), DENSE),
        (qdrant.Vector(data=[1, 2, 3, 4]), DENSE),
        (
            qdrant.Vector(
                multi_dense=qdrant.MultiDenseVector(
                    vectors=[qdrant.DenseVector(data=[1, 2]), qdrant.DenseVector(data=[3, 4])]
                )
            ),
            MULTI,
        ),
        (qdrant.Vector(data=[1, 2, 3, 4], vectors_count=2), MULTI),
        (
            qdrant.Vector(sparse=qdrant.SparseVector(indices=[7, 2**32 - 1], values=[1, 2])),
            SPARSE,
        ),
        (
            qdrant.Vector(data=[1, 2], indices=qdrant.SparseIndices(data=[7, 2**32 - 1])),
            SPARSE,
        ),
        (qdrant.Vector(), np.array([], dtype=np.float32)),
    ],
)
def test_the_newer_and_the_older_forms_are_read(message: qdrant.Vector, expected: Vector) -> None:
    assert_equal(read_vector(message), expected)


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        (
            qdrant.Vector(data=[1], vectors_count=1, indices=qdrant.SparseIndices(data=[1])),
            MalformedInput,
            "cannot be both specified",
        ),
        (qdrant.Vector(data=[1, 2, 3], vectors_count=2), InvalidVector, "3 floats do not make 2"),
        (qdrant.Vector(data=[1, 2, 3], vectors_count=0), InvalidVector, "multi-dense"),
        (qdrant.Vector(vectors_count=3), InvalidVector, "multi-dense"),
        (
            qdrant.Vector(multi_dense=qdrant.MultiDenseVector()),
            InvalidVector,
            "Multi-vector must not be empty",
        ),
        (
            qdrant.Vector(
                multi_dense=qdrant.MultiDenseVector(
                    vectors=[qdrant.DenseVector(data=[1]), qdrant.DenseVector(data=[1, 2])]
                )
            ),
            InvalidVector,
            r"differ in length: \[1, 2\]",
        ),
        (
            qdrant.Vector(sparse=qdrant.SparseVector(indices=[1, 2], values=[1])),
            HeadraceError,
            "must be the same length as indices",
        ),
        (
            qdrant.Vector(sparse=qdrant.SparseVector(indices=[1, 1], values=[1, 2])),
            HeadraceError,
            "indices: Validation error: must be unique",
        ),
        (
            qdrant.Vector(document=qdrant.Document(text="x", model="y")),
            MalformedInput,
            "The model `y` is not available here",
        ),
        (qdrant.Vector(image=qdrant.Image()), BadRequest, "inference .`image`"),
        (qdrant.Vector(object=qdrant.InferenceObject()), BadRequest, "inference .`object`"),
    ],
)
def test_a_vector_that_contradicts_itself_is_refused(
    message: qdrant.Vector, kind: type[HeadraceError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        read_vector(message)


def test_a_lone_vector_has_no_name() -> None:
    message = qdrant.Vectors(vector=qdrant.Vector(data=[1, 2, 3, 4]))
    vectors = read_named_vectors(message)
    assert vectors.keys() == {""}
    vector = vectors[""]
    assert not isinstance(vector, Text)
    assert_equal(vector, DENSE)


def test_a_sparse_vector_must_have_a_name() -> None:
    message = qdrant.Vectors(vector=qdrant.Vector(sparse=qdrant.SparseVector()))
    with pytest.raises(MalformedInput, match="Sparse vector must be named"):
        read_named_vectors(message)


def test_vectors_that_say_nothing_are_refused() -> None:
    with pytest.raises(MalformedInput, match="No Vector Provided"):
        read_named_vectors(qdrant.Vectors())


@pytest.mark.parametrize("dim", [0, 1, 31, 32, 4096, 65_536])
def test_a_vector_of_any_length_leaves_as_it_is_stored(dim: int) -> None:
    stored: FloatVector = np.arange(dim, dtype=np.float32) / np.float32(3)
    stored.flags.writeable = False
    output = qdrant.VectorsOutput()
    write_vectors_into({"": stored}, output)
    assert qdrant.VectorsOutput.FromString(output.SerializeToString()) == qdrant.VectorsOutput(
        vector=qdrant.VectorOutput(dense=qdrant.DenseVector(data=stored.tolist()))
    )


def test_a_view_with_gaps_leaves_as_its_own_elements() -> None:
    output = qdrant.VectorsOutput()
    write_vectors_into({"": np.arange(8, dtype=np.float32)[::2]}, output)
    assert list(output.vector.dense.data) == [0, 2, 4, 6]


def test_named_vectors_leave_by_name() -> None:
    output = qdrant.VectorsOutput()
    write_vectors_into({"": DENSE, "m": MULTI, "s": SPARSE}, output)
    vectors = output.vectors.vectors
    assert list(vectors[""].dense.data) == [1, 2, 3, 4]
    assert [list(row.data) for row in vectors["m"].multi_dense.vectors] == [[1, 2], [3, 4]]
    assert list(vectors["s"].sparse.indices) == [7, 2**32 - 1]
    assert list(vectors["s"].sparse.values) == [1, 2]


def test_a_point_without_vectors_leaves_an_empty_map() -> None:
    output = qdrant.VectorsOutput()
    write_vectors_into({}, output)
    assert output.WhichOneof("vectors_options") == "vectors"
    assert not output.vectors.vectors
