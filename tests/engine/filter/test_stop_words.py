from __future__ import annotations

import re
from pathlib import Path

import pytest

from headrace.engine.filter import stop_words
from headrace.engine.filter.stop_words import STOP_WORD_LANGUAGES, stop_words_of
from headrace.engine.payload.paths import JsonObject
from headrace.model.errors import WrongInput
from headrace.model.filters import FieldCondition, Filter, MatchText
from headrace.model.ids import PointId
from tests.engine.filter.edge_shard import edge_shard
from tests.engine.filter.points import indexed


def test_stop_words_are_those_of_qdrant() -> None:
    """In each language the words of its list, and of no other list, are left out."""
    some_of_each = [w for one in STOP_WORD_LANGUAGES for w in sorted(stop_words_of(one))[::80]]
    payloads: list[JsonObject] = []
    kept: set[PointId] = set()
    conditions: list[FieldCondition] = []
    for language in sorted(STOP_WORD_LANGUAGES):
        own = stop_words_of(language)
        for word in dict.fromkeys((*own, *some_of_each, "qdrant")):
            if word.lower() not in own:
                kept.add(len(payloads))
            payloads.append({language: word})
            conditions.append(FieldCondition(language, match=MatchText(word)))
    schema = {
        language: indexed("text", tokenizer="whitespace", stopwords=language)["a"]
        for language in STOP_WORD_LANGUAGES
    }
    with edge_shard(payloads, schema) as shard:
        assert shard.passing(Filter(should=tuple(conditions))) == kept


def test_each_language_has_one_list() -> None:
    lists = Path(stop_words.__file__).parent / "stop_word_lists"
    assert {path.stem for path in lists.iterdir()} == STOP_WORD_LANGUAGES
    for language in STOP_WORD_LANGUAGES:
        assert not any(re.search(r"\s", word) for word in stop_words_of(language))


@pytest.mark.parametrize("language", ["klingon", "English", "../stop_word_lists/english", ""])
def test_a_language_without_a_list_is_refused(language: str) -> None:
    with pytest.raises(WrongInput, match="not available"):
        stop_words_of(language)
