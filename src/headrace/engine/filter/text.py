"""How does text become tokens, and when do tokens match a full-text condition?

The text index and the evaluator share this. The order is Qdrant's: split into words,
then per word fold to ASCII, lower-case, drop stop words, stem, drop by length.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec
import regex
from py_rust_stemmers import SnowballStemmer

from headrace.engine.filter.folding import fold_to_ascii
from headrace.engine.filter.stop_words import stop_words_of
from headrace.model.errors import WrongInput
from headrace.model.filters import MatchPhrase, MatchText, MatchTextAny

FullTextMatch = MatchText | MatchTextAny | MatchPhrase

# Letters and digits as Qdrant counts them: with Unicode's Alphabetic, not `str.isalnum`,
# which leaves out the vowel signs of Indic scripts.
_WORD = regex.compile(r"[\p{Alphabetic}\p{N}]+")
_NO_SPACE = regex.compile(r"\P{White_Space}+")
# Multilingual words keep their marks, which Thai tones and Hebrew points are.
_MARKED_WORD = regex.compile(r"[\p{Alphabetic}\p{N}\p{M}]+")
_LETTER = regex.compile(r"\p{Alphabetic}")
# Scripts in which a mark is not part of a word's identity.
_OPTIONAL_MARK = regex.compile(r"(?<=[\p{Latin}\p{Greek}\p{Hebrew}\p{Arabic}\p{Thai}]\p{M}*)\p{Mn}")


class TokenizerType(StrEnum):
    """How text is split into words."""

    WORD = "word"
    WHITESPACE = "whitespace"
    PREFIX = "prefix"
    MULTILINGUAL = "multilingual"


class StopwordsSet(msgspec.Struct, frozen=True):
    """Stop words of several languages and of one's own."""

    languages: tuple[str, ...] | None = None
    custom: tuple[str, ...] | None = None


class SnowballParams(msgspec.Struct, frozen=True, tag="snowball"):
    """The Snowball stemmer of a language."""

    language: str


class NoStemmer(msgspec.Struct, frozen=True, tag="none"):
    """No stemming, said explicitly."""


class TextIndexParams(msgspec.Struct, frozen=True):
    """What Qdrant's `TextIndexParams` say about tokens; None means the default."""

    tokenizer: TokenizerType = TokenizerType.WORD
    min_token_len: int | None = None
    max_token_len: int | None = None
    lowercase: bool | None = None
    ascii_folding: bool | None = None
    phrase_matching: bool | None = None
    stopwords: str | StopwordsSet | None = None
    stemmer: SnowballParams | NoStemmer | None = None


@dataclass(frozen=True)
class TextPipeline:
    """Turns text into tokens, on the side of documents and on the side of queries.

    Attributes:
        min_token_len, max_token_len: in characters; None is no limit.
        stop_words: lower-cased if `lowercase`.
        phrase_matching: whether phrases can be matched; without it they match nothing.
    """

    tokenizer: TokenizerType
    min_token_len: int | None
    max_token_len: int | None
    lowercase: bool
    ascii_folding: bool
    phrase_matching: bool
    stop_words: frozenset[str]
    stemmer: SnowballStemmer | None

    def document_tokens(self, text: str) -> list[str]:
        """The tokens of a stored text, in order, repeated as they are."""
        if self.tokenizer is TokenizerType.PREFIX:
            words = self._tokens(self._words(text), length_max=None)
            return [prefix for word in words for prefix in self._prefixes(word)]
        return list(self._tokens(self._words(text), length_max=self.max_token_len))

    def query_tokens(self, text: str) -> list[str]:
        """The tokens that a document must have.

        For prefixes, one per word: the longest that is stored. Stop words are kept then,
        since a word that is still being typed may look like one.
        """
        if self.tokenizer is not TokenizerType.PREFIX:
            return self.document_tokens(text)
        words = map(self._stemmed, map(self._cased, self._words(text)))
        return [word[: self.max_token_len] for word in words if self._is_long_enough(word)]

    def _words(self, text: str) -> Iterable[str]:
        match self.tokenizer:
            case TokenizerType.WHITESPACE:
                return _NO_SPACE.findall(text)
            case TokenizerType.MULTILINGUAL:
                return _multilingual_words(text)
        return _WORD.findall(text)

    def _tokens(self, words: Iterable[str], length_max: int | None) -> Iterator[str]:
        for word in words:
            cased = self._cased(word)
            if cased in self.stop_words:
                continue
            token = self._stemmed(cased)
            if self._is_long_enough(token) and (length_max is None or len(token) <= length_max):
                yield token

    def _prefixes(self, word: str) -> Iterator[str]:
        shortest = 1 if self.min_token_len is None else self.min_token_len
        longest = len(word) if self.max_token_len is None else min(len(word), self.max_token_len)
        return (word[:length] for length in range(shortest, longest + 1))

    def _cased(self, word: str) -> str:
        folded = fold_to_ascii(word) if self.ascii_folding else word
        return folded.lower() if self.lowercase else folded

    def _stemmed(self, word: str) -> str:
        return word if self.stemmer is None else self.stemmer.stem_word(word)

    def _is_long_enough(self, token: str) -> bool:
        return self.min_token_len is None or len(token) >= self.min_token_len


def text_pipeline(params: dict[str, Any] | None) -> TextPipeline:
    """The pipeline of a text index.

    Args:
        params: Qdrant's `TextIndexParams` as JSON; None is all defaults.

    Raises:
        WrongInput: an option has a value that does not exist, or that is not available here.
    """
    try:
        options = msgspec.convert(params or {}, TextIndexParams)
    except msgspec.ValidationError as error:
        raise WrongInput(f"Invalid text index parameters: {error}") from error
    if options.tokenizer is TokenizerType.MULTILINGUAL:
        _load_word_breaker()
    lowercase = options.lowercase is not False
    return TextPipeline(
        tokenizer=options.tokenizer,
        min_token_len=options.min_token_len,
        max_token_len=options.max_token_len,
        lowercase=lowercase,
        ascii_folding=bool(options.ascii_folding),
        phrase_matching=bool(options.phrase_matching),
        stop_words=_stop_words(options.stopwords, lowercase),
        stemmer=_stemmer(options.stemmer),
    )


@lru_cache(maxsize=64)
def pipeline_of(params_json: bytes) -> TextPipeline:
    """`text_pipeline` of parameters in JSON, made once."""
    return text_pipeline(msgspec.json.decode(params_json))


def full_text_matches(
    condition: FullTextMatch, texts: Sequence[str], pipeline: TextPipeline
) -> bool:
    """Whether the texts of one field match, as a text index answers it.

    Tokens may come from different texts, but a phrase lies within one. No tokens in the
    query match nothing.
    """
    documents = [pipeline.document_tokens(text) for text in texts]
    found = {token for document in documents for token in document}
    match condition:
        case MatchText(text):
            wanted = pipeline.query_tokens(text)
            return bool(wanted) and found.issuperset(wanted)
        case MatchTextAny(text):
            return not found.isdisjoint(pipeline.query_tokens(text))
        case MatchPhrase(text):
            phrase = pipeline.document_tokens(text) if pipeline.phrase_matching else []
            return bool(phrase) and any(_has_run(document, phrase) for document in documents)


def _has_run(document: list[str], phrase: list[str]) -> bool:
    starts = range(len(document) - len(phrase) + 1)
    return any(document[start : start + len(phrase)] == phrase for start in starts)


def _stop_words(option: str | StopwordsSet | None, lowercase: bool) -> frozenset[str]:
    if isinstance(option, str):
        option = StopwordsSet(languages=(option,))
    if option is None:
        return frozenset()
    words = {word for language in option.languages or () for word in stop_words_of(language)}
    words.update(option.custom or ())
    return frozenset(word.lower() for word in words) if lowercase else frozenset(words)


def _stemmer(option: SnowballParams | NoStemmer | None) -> SnowballStemmer | None:
    if not isinstance(option, SnowballParams):
        return None
    try:
        return SnowballStemmer(option.language)
    except ValueError as error:
        raise WrongInput(f"No Snowball stemmer for the language '{option.language}'") from error


def _multilingual_words(text: str) -> Iterator[str]:
    """Words of any script, as ICU's dictionaries divide it, in a plain lower-case form.

    Words without a letter are left out, as Qdrant does here.
    """
    for segment in _load_word_breaker()(text, "root"):
        decomposed = unicodedata.normalize("NFKD", segment)
        plain = unicodedata.normalize("NFC", _OPTIONAL_MARK.sub("", decomposed)).lower()
        yield from (word for word in _MARKED_WORD.findall(plain) if _LETTER.search(word))


def _load_word_breaker() -> Callable[[str, str], Iterable[str]]:
    try:
        from icu4py.breakers import WordBreaker
    except ImportError as error:
        raise WrongInput(
            "The multilingual tokenizer needs the package icu4py: "
            "pip install 'headrace[multilingual]'"
        ) from error
    return WordBreaker
