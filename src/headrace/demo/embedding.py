"""How does a text become vectors, offline?

wordllama carries 256-dimension token embeddings and their tokenizer in its wheel. They
were trained so that their first dimensions alone are a smaller embedding of the same text.
"""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from headrace.demo.dataset import missing_extra, words
from headrace.model.vectors import FloatMatrix, FloatVector, SparseVector

TEXT_DIM = 256
WORD_DIM = 64


class TextEmbedding:
    """Dense vectors of texts, and of each word of a text.

    Raises:
        DemoDataMissing: wordllama is not installed.
    """

    def __init__(self) -> None:
        try:
            with _root_logger_untouched():
                import wordllama
        except ModuleNotFoundError as error:
            raise missing_extra("wordllama") from error
        # Its default is to look elsewhere for the tokenizer, and to ask the network for it.
        self._model: Any = wordllama.WordLlama.load(
            cache_dir=Path(wordllama.__file__).parent, dim=TEXT_DIM, disable_download=True
        )

    def of_texts(self, texts: Sequence[str]) -> FloatMatrix:
        """One vector of length 1 for each text.

        Returns:
            Shape (len(texts), 256), float32.
        """
        return _normalised(self._model.embed(list(texts)))

    def of_words(self, texts: Sequence[str]) -> list[FloatMatrix]:
        """One vector of length 1 for each different word of each text.

        Returns:
            For each text, shape (words, 64), float32; at least one row, since a text
            without words counts as one.
        """
        words_of_texts = [words(text) or [text] for text in texts]
        known = sorted({word for one in words_of_texts for word in one})
        vocabulary = {word: row for row, word in enumerate(known)}
        vectors = _normalised(self._model.embed(list(vocabulary))[:, :WORD_DIM])
        return [vectors[[vocabulary[word] for word in one]] for one in words_of_texts]


class WordWeights:
    """Sparse vectors of texts: a dimension for each word, weighted by how rare the word is.

    Args:
        texts: the texts that say how rare each word is.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        counts = Counter(word for text in texts for word in words(text))
        self._weights = {word: np.log1p(len(texts) / count) for word, count in counts.items()}
        self._weight_of_unseen = np.log1p(len(texts))

    def of_text(self, text: str) -> SparseVector:
        """The words of a text, by the CRC-32 of each: the same number in every process."""
        weights = {
            zlib.crc32(word.encode()): self._weights.get(word, self._weight_of_unseen)
            for word in words(text)
        }
        return SparseVector(
            np.fromiter(weights.keys(), np.uint32), np.fromiter(weights.values(), np.float32)
        )


@contextmanager
def _root_logger_untouched() -> Iterator[None]:
    """Importing wordllama configures the root logger; undo that."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _normalised(vectors: FloatMatrix) -> FloatMatrix:
    lengths: FloatVector = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)
