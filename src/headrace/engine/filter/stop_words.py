"""Which words does a full-text index leave out, per language?

The lists lie beside this module, one word a line. They are those of NLTK's stopwords
corpus, which go back to the Snowball project, and for Japanese a list of its own; of each,
exactly the words that Qdrant's engine leaves out.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from headrace.model.errors import WrongInput

STOP_WORD_LANGUAGES = frozenset(
    """
    arabic azerbaijani basque bengali catalan chinese danish dutch english finnish french
    german greek hebrew hinglish hungarian indonesian italian japanese kazakh nepali
    norwegian portuguese romanian russian slovene spanish swedish tajik turkish
    """.split()  # noqa: SIM905
)


@lru_cache(maxsize=64)
def stop_words_of(language: str) -> frozenset[str]:
    """The stop words of a language.

    Args:
        language: the English name in lower case, as Qdrant's `stopwords` option has it.

    Raises:
        WrongInput: there is no list for this language.
    """
    if language not in STOP_WORD_LANGUAGES:
        raise WrongInput(f"Stop words of the language '{language}' are not available")
    stored = files("headrace.engine.filter").joinpath("stop_word_lists", f"{language}.txt")
    return frozenset(stored.read_text(encoding="utf-8").split())
