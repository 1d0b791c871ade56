from __future__ import annotations

import pytest

from headrace.engine.filter.stop_words import stop_words_of
from headrace.engine.payload.paths import JsonObject
from headrace.model.errors import WrongInput
from headrace.model.filters import FieldCondition, Filter, MatchText
from tests.engine.filter.edge_shard import edge_shard
from tests.engine.filter.points import indexed

# A word that is a stop word in each language, as Qdrant's own tests have it.
COMMON_WORDS = {
    "arabic": "في",
    "basque": "eta",
    "bengali": "এবং",
    "catalan": "i",
    "chinese": "的",
    "danish": "og",
    "dutch": "en",
    "english": "and",
    "finnish": "ja",
    "french": "et",
    "german": "und",
    "greek": "και",
    "hebrew": "את",
    "hungarian": "és",
    "indonesian": "dan",
    "italian": "e",
    "japanese": "の",
    "norwegian": "og",
    "portuguese": "e",
    "romanian": "ar",
    "russian": "и",
    "slovene": "in",
    "spanish": "y",
    "swedish": "och",
    "turkish": "ve",
}


@pytest.mark.parametrize(("language", "word"), COMMON_WORDS.items())
def test_language_has_its_common_word(language: str, word: str) -> None:
    assert word in stop_words_of(language)
    assert "qdrant" not in stop_words_of(language)


@pytest.mark.parametrize("language", ["azerbaijani", "hinglish", "kazakh", "nepali", "tajik", "x"])
def test_language_without_a_list_is_refused(language: str) -> None:
    with pytest.raises(WrongInput, match=language):
        stop_words_of(language)


def test_english_stop_words_are_those_of_qdrant() -> None:
    words = [*sorted(stop_words_of("english")), "qdrant"]
    payloads: list[JsonObject] = [{"a": word} for word in words]
    schema = indexed("text", tokenizer="whitespace", stopwords="english")
    any_word = tuple(FieldCondition("a", match=MatchText(word)) for word in words)
    with edge_shard(payloads, schema) as shard:
        assert shard.passing(Filter(should=any_word)) == {words.index("qdrant")}
