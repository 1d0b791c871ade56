"""Real text that is found on any machine: the sentences of the docstrings of installed Python.

Embedded by wordllama, whose weights are in its package, so nothing is downloaded. Which
sentences there are depends on what is installed; a run says how many and their digest.
Embedding 200,000 takes about half a minute, so it is kept between runs.
"""

from __future__ import annotations

import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from headrace.demo.embedding import TEXT_DIM, TextEmbedding
from headrace.model.vectors import FloatMatrix

__all__ = ["TEXT_DIM", "TooFewTexts", "embed", "find_sentences"]

# Shorter ones are titles and lists of arguments, longer ones tables and examples.
_CHARACTERS_MIN = 20
_CHARACTERS_MAX = 400

_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\n\s*\n")


class TooFewTexts(Exception):
    """This machine has not enough Python installed."""


def find_sentences(count: int) -> list[str]:
    """The first `count` distinct sentences, in the order of their files' paths.

    Raises:
        TooFewTexts: there are not so many.
    """
    found: dict[str, None] = {}
    for text in _sources():
        for docstring in _DOCSTRING.findall(text):
            for sentence in _SENTENCE_END.split(docstring):
                spaced = " ".join(sentence.split())
                if _CHARACTERS_MIN <= len(spaced) <= _CHARACTERS_MAX:
                    found[spaced] = None
        if len(found) >= count:
            return list(found)[:count]
    raise TooFewTexts(f"found {len(found)} sentences, not {count}")


def embed(sentences: list[str], cache: Path) -> FloatMatrix:
    """Their embeddings, shape (len(sentences), TEXT_DIM), float32, of length 1.

    Args:
        sentences: what is embedded.
        cache: a folder; what is there already for the same sentences is taken.
    """
    digest = hashlib.sha256("\n".join(sentences).encode()).hexdigest()[:16]
    kept = cache / f"texts-{len(sentences)}-{digest}.npy"
    if not kept.exists():
        vectors = TextEmbedding().of_texts(sentences)
        cache.mkdir(parents=True, exist_ok=True)
        np.save(kept, vectors)
    loaded: FloatMatrix = np.load(kept)
    return loaded


def _sources() -> Iterator[str]:
    """All Python files of the standard library and of installed packages."""
    folders = dict.fromkeys(
        [sysconfig.get_path("stdlib"), *(path for path in sys.path if "site-packages" in path)]
    )
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.py")):
            yield path.read_text(encoding="utf-8", errors="replace")
