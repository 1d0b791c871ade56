"""Codes keep distances, or say that they do not."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.engine.vector_index.codes import ByteCodes
from headrace.model.vectors import FloatMatrix


def drawn(count: int, dim: int, seed: int = 1) -> FloatMatrix:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


@pytest.mark.parametrize("dim", [1, 3, 16, 17, 100])
def test_distances_between_codes_are_those_between_vectors(dim: int) -> None:
    vectors = drawn(500, dim)
    vectors += np.arange(dim, dtype=np.float32)
    codes = ByteCodes.fit(vectors)
    coded = codes.encode(vectors)
    assert coded.shape == (500, -(-dim // 16) * 16)
    wanted = np.linalg.norm(vectors[:250] - vectors[250:], axis=1)
    found = np.linalg.norm(coded[:250] - coded[250:], axis=1) * codes.step
    np.testing.assert_allclose(found, wanted, atol=codes.step * np.sqrt(dim))


def test_query_has_the_codes_of_the_same_vector() -> None:
    vectors = drawn(200, 20)
    codes = ByteCodes.fit(vectors)
    for vector, coded in zip(vectors, codes.encode(vectors), strict=True):
        query = codes.encode_query(vector)
        assert query is not None
        assert query.tolist() == coded.tolist()


def test_vector_far_outside_of_the_box_has_no_codes() -> None:
    vectors = drawn(200, 20)
    codes = ByteCodes.fit(vectors)
    far = vectors[:1] * np.float32(50)
    assert codes.outside(far).tolist() == [True]
    assert codes.encode_query(far[0]) is None
    assert not codes.outside(vectors).any()


def test_equal_vectors_can_be_coded() -> None:
    vectors = np.ones((50, 8), dtype=np.float32)
    codes = ByteCodes.fit(vectors)
    assert np.isfinite(codes.encode(vectors)).all()
    assert codes.good_enough(vectors)


def test_what_is_far_makes_no_codes_of_what_is_near_good_enough() -> None:
    vectors = drawn(4000, 32)
    vectors[7] *= np.float32(1000)
    assert not ByteCodes.fit(vectors).good_enough(vectors)
    centres = np.random.default_rng(8).random((20, 16), dtype=np.float32)
    for apart, is_good in ((2e-4, False), (1e-2, True)):
        close = np.repeat(centres, 100, axis=0) + np.float32(apart) * drawn(2000, 16)
        assert ByteCodes.fit(close).good_enough(close) is is_good


def test_copies_can_be_coded_whichever_of_them_are_found() -> None:
    vectors = np.repeat(drawn(12, 24), 300, axis=0)
    np.random.default_rng(6).shuffle(vectors)
    assert ByteCodes.fit(vectors).good_enough(vectors)


def test_clusters_much_closer_than_a_step_are_not_good_enough() -> None:
    vectors = drawn(4000, 16) * np.float32(0.0005)
    vectors[:40] += np.float32(100)
    assert not ByteCodes.fit(vectors).good_enough(vectors[40:])
    assert ByteCodes.fit(drawn(4000, 32)).good_enough(drawn(4000, 32))
