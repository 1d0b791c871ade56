from __future__ import annotations

import logging

import numpy as np
import pytest

from headrace.demo.dataset import load_airports, words
from headrace.demo.embedding import TEXT_DIM, WORD_DIM, TextEmbedding, WordWeights
from headrace.demo.formats import text_of


@pytest.fixture(scope="module")
def embedding() -> TextEmbedding:
    return TextEmbedding()


def test_texts_become_vectors_of_length_one(embedding: TextEmbedding) -> None:
    vectors = embedding.of_texts(["Chicago", "a beach on an island"])
    assert vectors.shape == (2, TEXT_DIM)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)


def test_texts_of_one_meaning_are_nearer_than_others(embedding: TextEmbedding) -> None:
    lake, water, finance = embedding.of_texts(["a lake", "a river and a pond", "bank account"])
    assert lake @ water > lake @ finance


def test_each_different_word_has_a_vector_of_its_own(embedding: TextEmbedding) -> None:
    both, one, none = embedding.of_words(["Lake River lake", "river", "?"])
    assert both.shape == (2, WORD_DIM)
    np.testing.assert_array_equal(both[1], one[0])
    assert none.shape == (1, WORD_DIM)


def test_embedding_leaves_the_root_logger_as_it_was(embedding: TextEmbedding) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    TextEmbedding()
    assert (list(root.handlers), root.level) == before


def test_rare_words_weigh_more_than_common_ones() -> None:
    weights = WordWeights(["lake airport", "river airport", "airport"])
    rare, common = weights.of_text("lake airport").values
    assert rare > common > 0


def test_no_two_words_of_the_data_share_a_dimension() -> None:
    texts = [text_of(one) for one in load_airports()]
    different = {word for text in texts for word in words(text)}
    weights = WordWeights(texts)
    assert len({int(weights.of_text(word).indices[0]) for word in different}) == len(different)
