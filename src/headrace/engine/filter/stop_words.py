"""Which words does a full-text index leave out, per language?

Qdrant's lists are those of NLTK, which no package carries in its wheel. English is kept
here word for word; for each other language, of two maintained collections the one that
comes nearer to Qdrant's list (measured with its engine: share of common words).
"""

from __future__ import annotations

from functools import lru_cache

import stop_words
import stopwordsiso

from headrace.model.errors import WrongInput

# Languages that `stopwordsiso` covers more closely, by its codes.
_STOPWORDSISO_CODES = {
    "arabic": "ar",
    "basque": "eu",
    "bengali": "bn",
    "catalan": "ca",
    "chinese": "zh",
    "greek": "el",
    "hebrew": "he",
    "indonesian": "id",
    "japanese": "ja",
    "norwegian": "no",
    "romanian": "ro",
    "slovene": "sl",
}
# Languages that `stop-words` covers more closely, by its names.
_STOP_WORDS_LANGUAGES = frozenset(
    {
        "danish",
        "dutch",
        "finnish",
        "french",
        "german",
        "hungarian",
        "italian",
        "portuguese",
        "russian",
        "spanish",
        "swedish",
        "turkish",
    }
)

_ENGLISH = """
i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself
yourselves he him his himself she she's her hers herself it it's its itself they them their
theirs themselves what which who whom this that that'll these those am is are was were be
been being have has had having do does did doing a an the and but if or because as until
while of at by for with about against between into through during before after above below
to from up down in out on off over under again further then once here there when where why
how all any both each few more most other some such no nor not only own same so than too
very s t can will just don don't should should've now d ll m o re ve y ain aren aren't
couldn couldn't didn didn't doesn doesn't hadn hadn't hasn hasn't haven haven't isn isn't ma
mightn mightn't mustn mustn't needn needn't shan shan't shouldn shouldn't wasn wasn't weren
weren't won won't wouldn wouldn't
"""


@lru_cache(maxsize=64)
def stop_words_of(language: str) -> frozenset[str]:
    """The stop words of a language, in lower case.

    Args:
        language: the English name in lower case, as Qdrant's `stopwords` option has it.

    Raises:
        WrongInput: there is no list for this language.
    """
    if language == "english":
        return frozenset(_ENGLISH.split())
    if language in _STOPWORDSISO_CODES:
        return frozenset(stopwordsiso.stopwords(_STOPWORDSISO_CODES[language]))
    if language in _STOP_WORDS_LANGUAGES:
        return frozenset(stop_words.get_stop_words(language))
    raise WrongInput(f"Stop words of the language '{language}' are not available")
